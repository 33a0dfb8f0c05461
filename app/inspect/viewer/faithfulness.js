// Does the map matter to the answer? Deletion and insertion curves, and a control with random weights, on demand.

let faithfulness = { job: "", kind: "", timer: 0 };

// Which map is checked: another may be on show by the time that the result is.
const checkedMap = (one) => (sideB() ? sideName(one) + ": " : "") + [one.label, headWords(one), wordWords(one)].join(" · ");

async function startFaithfulness(kind) {
  if (!views.length) return;
  const one = front();
  const of = checkedMap(one);
  stopFaithfulness();
  const asked = { result: one.result, adapter: one.adapter, kind, heads: chosen.heads === "head" ? [chosen.layer, chosen.head] : chosen.heads, rows: rowsOf(one) };
  faithfulness = { job: "waiting", kind, of, timer: 0 };
  faithfulnessBusy("Starting", 0);
  const reply = (await server.start_faithfulness(asked).catch(() => null)) || NO_ANSWER;
  if (faithfulness.job !== "waiting") {
    if (reply.job) server.stop_faithfulness({ job: reply.job }).catch(() => null);
    return;
  }
  if (reply.error) return endFaithfulness(reply.error);
  faithfulness = { job: reply.job, kind, of, timer: setTimeout(followFaithfulness, 200) };
}

async function followFaithfulness() {
  const { job, kind, of } = faithfulness;
  const reply = (await server.follow_faithfulness({ job }).catch(() => null)) || NO_ANSWER;
  if (faithfulness.job !== job) return;
  if (reply.error) return endFaithfulness(reply.error);
  if (!reply.done) {
    faithfulnessBusy(reply.what, reply.share);
    faithfulness.timer = setTimeout(followFaithfulness, 250);
    return;
  }
  endFaithfulness("");
  if (kind === "curves") showCurves(reply.result, of);
  else showControl(reply.result, of);
}

function stopFaithfulness() {
  clearTimeout(faithfulness.timer);
  if (faithfulness.job && faithfulness.job !== "waiting") server.stop_faithfulness({ job: faithfulness.job }).catch(() => null);
  endFaithfulness(faithfulness.job ? "Stopped." : "");
}

function endFaithfulness(words) {
  faithfulness = { job: "", kind: "", timer: 0 };
  part("faithfulnessBusy").hidden = true;
  part("faithfulnessSaid").textContent = words;
  element.querySelectorAll("[data-faithfulness]").forEach((button) => (button.disabled = false));
}

function faithfulnessBusy(what, share) {
  part("faithfulnessSaid").textContent = "";
  part("faithfulnessBusy").hidden = false;
  part("faithfulnessWhat").textContent = what + " …";
  part("faithfulnessBar").value = Math.round(100 * share);
  element.querySelectorAll("[data-faithfulness]").forEach((button) => (button.disabled = true));
}

function clearFaithfulness() {
  if (faithfulness.job) stopFaithfulness();
  part("faithfulnessSaid").textContent = "";
  part("curves").replaceChildren();
  part("control").replaceChildren();
}

const svg = (name, attributes, text = "") => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};

const tickWords = (value) => (value >= 0 && value < 0.1 ? value.toPrecision(1) : value.toFixed(2));

// One chart: lines over the share of patches, each {values, className}; a value that is not defined leaves a gap.
function chart(title, shares, lines, axis, [least, most]) {
  const [width, height, left, bottom] = [300, 190, 38, 30];
  const holder = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  const picture = svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": title });
  const x = (share) => left + share * (width - left - 20);
  const y = (value) => height - bottom - ((value - least) / (most - least)) * (height - bottom - 10);
  for (const share of [0, 0.5, 1]) picture.append(svg("text", { x: x(share), y: height - bottom + 14, "text-anchor": "middle" }, 100 * share + " %"));
  for (const value of least < 0 ? [least, 0, most] : [0, most / 2, most]) {
    picture.append(svg("line", { x1: left, x2: width - 20, y1: y(value), y2: y(value), class: "rule" }));
    picture.append(svg("text", { x: left - 4, y: y(value) + 4, "text-anchor": "end" }, tickWords(value)));
  }
  picture.append(svg("text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }, axis));
  for (const line of lines) {
    const isThere = (i) => (line.values[i] ?? null) !== null;
    const path = shares.map((share, i) => (isThere(i) ? (isThere(i - 1) ? "L" : "M") + x(share) + " " + y(line.values[i]) : ""));
    picture.append(svg("path", { d: path.join(""), class: line.className }));
  }
  holder.append(caption, picture);
  return holder;
}

function checkWords(of, words) {
  const told = document.createElement("p");
  const name = document.createElement("b");
  name.textContent = of;
  told.append(name, document.createElement("br"), words);
  return told;
}

function showCurves(result, of) {
  const drawn = (kind, title, axis) => {
    const lines = [
      { values: result[kind + "_random"], className: "random" },
      { values: result[kind], className: "map" },
    ];
    const areas = ": area " + result[kind + "_area"].toFixed(3) + " (random " + result[kind + "_random_area"].toFixed(3) + ")";
    return chart(title + areas, result.shares, lines, axis, [0, 1.05 * Math.max(...lines.flatMap((line) => line.values), 1e-6)]);
  };
  part("curves").replaceChildren(
    drawn("deletion", "Deletion", "patches hidden, highest first"),
    drawn("insertion", "Insertion", "patches shown, highest first"),
    checkWords(of, result.words),
  );
}

// A rank correlation, from -1 to 1.
function showControl(result, of) {
  const shares = result.randomised.map((_, i) => i / Math.max(1, result.randomised.length - 1));
  const least = Math.min(...result.likeness.map((value) => value ?? 0));
  const line = { values: result.likeness, className: "map" };
  part("control").replaceChildren(
    chart("Likeness to the map of the trained weights", shares, [line], "layers with random weights, top first", [least < 0 ? Math.min(least, -0.25) : 0, 1]),
    checkWords(of, result.words),
  );
}

element.querySelectorAll("[data-faithfulness]").forEach((button) => button.addEventListener("click", () => startFaithfulness(button.dataset.faithfulness)));
element.querySelector("[data-action=stopFaithfulness]").addEventListener("click", stopFaithfulness);
