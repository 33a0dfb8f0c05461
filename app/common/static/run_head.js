// Where a run stands that a tab follows, tuning or evaluation: its state, in words, its share and the time left.

// `names`: what the root's dataset tells of the head.
export function showRunHead(root, head, names) {
  const part = (name) => root.querySelector("." + name);
  part("empty").hidden = true;
  part("body").hidden = false;
  for (const name of ["state", "words", "left"]) part(name).textContent = head[name];
  root.querySelector("progress").value = Math.round(1000 * head.share);
  for (const name of names) if (root.dataset[name] !== String(head[name])) root.dataset[name] = head[name];
}

export function showNoRun(root, facts) {
  root.querySelector(".empty").hidden = false;
  root.querySelector(".body").hidden = true;
  Object.assign(root.dataset, { status: "none", name: "", tone: "", ...facts });
}
