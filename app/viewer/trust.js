// Does the map matter to the answer? Deletion and insertion curves, and a control with random weights, on demand.

let trust = { job: "", kind: "", timer: 0 };

async function startTrust(kind) {
  if (!views.length) return;
  const one = front();
  stopTrust();
  const asked = { result: one.result, adapter: one.adapter, kind, heads: chosen.heads === "head" ? [chosen.layer, chosen.head] : chosen.heads, rows: rowsOf(one) };
  trust = { job: "waiting", kind, timer: 0 };
  trustBusy("Starting", 0);
  const reply = (await server.start_trust(asked).catch(() => null)) || NO_ANSWER;
  if (trust.job !== "waiting") {
    if (reply.job) server.stop_trust({ job: reply.job }).catch(() => null);
    return;
  }
  if (reply.error) return endTrust(reply.error);
  trust = { job: reply.job, kind, timer: setTimeout(followTrust, 200) };
}

async function followTrust() {
  const { job, kind } = trust;
  const reply = (await server.follow_trust({ job }).catch(() => null)) || NO_ANSWER;
  if (trust.job !== job) return;
  if (reply.error) return endTrust(reply.error);
  if (!reply.done) {
    trustBusy(reply.what, reply.share);
    trust.timer = setTimeout(followTrust, 250);
    return;
  }
  endTrust("");
  if (kind === "curves") showCurves(reply.result);
  else showControl(reply.result);
}

function stopTrust() {
  clearTimeout(trust.timer);
  if (trust.job && trust.job !== "waiting") server.stop_trust({ job: trust.job }).catch(() => null);
  endTrust(trust.job ? "Stopped." : "");
}

function endTrust(words) {
  trust = { job: "", kind: "", timer: 0 };
  part("trustBusy").hidden = true;
  part("trustSaid").textContent = words;
  element.querySelectorAll("[data-trust]").forEach((button) => (button.disabled = false));
}

function trustBusy(what, share) {
  part("trustSaid").textContent = "";
  part("trustBusy").hidden = false;
  part("trustWhat").textContent = what + " …";
  part("trustBar").value = Math.round(100 * share);
  element.querySelectorAll("[data-trust]").forEach((button) => (button.disabled = true));
}

function clearTrust() {
  if (trust.job) stopTrust();
  part("trustSaid").textContent = "";
  part("curves").replaceChildren();
  part("control").replaceChildren();
}

const svg = (name, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};

// One chart: lines over the share of patches, each {values, name, className}.
function chart(title, shares, lines, axis) {
  const [width, height, left, bottom] = [300, 190, 38, 30];
  const holder = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const picture = svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": title });
  const top = Math.max(...lines.flatMap((line) => line.values), 1e-6) * 1.05;
  const x = (share) => left + share * (width - left - 20);
  const y = (value) => height - bottom - (value / top) * (height - bottom - 10);
  for (const share of [0, 0.5, 1]) picture.append(svg("text", { x: x(share), y: height - bottom + 14, "text-anchor": "middle" }, 100 * share + " %"));
  for (const value of [0, top / 2, top]) {
    picture.append(svg("line", { x1: left, x2: width - 20, y1: y(value), y2: y(value), class: "rule" }));
    picture.append(svg("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, value < 0.1 ? value.toPrecision(1) : value.toFixed(2)));
  }
  picture.append(svg("text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }, axis));
  for (const line of lines) picture.append(svg("polyline", { points: shares.map((share, i) => x(share) + "," + y(line.values[i])).join(" "), class: line.className }));
  holder.append(caption, picture);
  return holder;
}

function showCurves(result) {
  const lines = (kind) => [
    { values: result[kind + "_random"], className: "random" },
    { values: result[kind], className: "map" },
  ];
  const words = document.createElement("p");
  words.textContent = result.words;
  part("curves").replaceChildren(
    chart("Deletion: area " + result.deletion_area.toFixed(3) + " (random " + result.deletion_random_area.toFixed(3) + ")", result.shares, lines("deletion"), "patches hidden, highest first"),
    chart("Insertion: area " + result.insertion_area.toFixed(3) + " (random " + result.insertion_random_area.toFixed(3) + ")", result.shares, lines("insertion"), "patches shown, highest first"),
    words,
  );
}

function showControl(result) {
  const words = document.createElement("p");
  words.textContent = result.words;
  const shares = result.randomised.map((_, i) => i / Math.max(1, result.randomised.length - 1));
  part("control").replaceChildren(chart("Likeness to the map of the trained weights", shares, [{ values: result.likeness.map((value) => Math.max(0, value ?? 0)), className: "map" }], "layers with random weights, top first"), words);
}

element.querySelectorAll("[data-trust]").forEach((button) => button.addEventListener("click", () => startTrust(button.dataset.trust)));
element.querySelector("[data-action=stopTrust]").addEventListener("click", stopTrust);
