// Right for the right reason: the table of cells at a threshold, and how questions move between them.

import { make, svg } from "../../common/static/dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, BAR, GAP] = [760, 260, 170, 590, 14, 8];

// `colours`: by cell. `step`: of the value's "reasons"; `choose(system, cell)` shows the questions of a cell.
export function fillCells(table, step, colours, choose) {
  const cells = Object.keys(colours);
  const rows = Object.entries(step.counts).map(([system, counts]) => {
    const total = cells.reduce((sum, cell) => sum + counts[cell], 0);
    const buttons = cells.map((cell) => {
      const share = total ? ` ${Math.round((100 * counts[cell]) / total)} %` : "";
      const button = make(
        "button",
        { type: "button", dataset: { cell }, disabled: !counts[cell] },
        String(counts[cell]),
      );
      button.addEventListener("click", () => choose(system, cell));
      return make("td", {}, button, make("small", {}, share));
    });
    return make("tr", { dataset: { system } }, make("th", { scope: "row" }, system), ...buttons);
  });
  const head = make("tr", {}, make("td"), ...cells.map((cell) => make("th", { scope: "col" }, cell)));
  table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

// `moved`: {before, after, flows: [[cell before, cell after, count], ...]}; `choose(flow)` shows the questions of a band.
export function drawAlluvial(place, moved, colours, choose) {
  const cells = Object.keys(colours);
  if (!moved) {
    place.replaceChildren();
    return;
  }
  const total = moved.flows.reduce((sum, flow) => sum + flow[2], 0);
  const scale = (HEIGHT - 30 - GAP * (cells.length - 1)) / total;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-label": `${moved.before} to ${moved.after}` });
  picture.append(svg("text", { x: LEFT, y: 12, "text-anchor": "end" }, moved.before));
  picture.append(svg("text", { x: RIGHT, y: 12 }, moved.after));
  const sides = [0, 1].map((side) => {
    let top = 22;
    const tops = {};
    cells.forEach((cell) => {
      const count = moved.flows.filter((flow) => flow[side] === cell).reduce((sum, flow) => sum + flow[2], 0);
      const x = side ? RIGHT : LEFT - BAR;
      tops[cell] = top;
      picture.append(svg("rect", { x, y: top, width: BAR, height: count * scale, fill: colours[cell] }));
      if (count) {
        const at = side ? RIGHT + BAR + 6 : LEFT - BAR - 6;
        const anchor = side ? "start" : "end";
        picture.append(
          svg("text", { x: at, y: top + (count * scale) / 2 + 4, "text-anchor": anchor }, `${cell} (${count})`),
        );
      }
      top += count * scale + GAP;
    });
    return tops;
  });
  const middle = (LEFT + RIGHT) / 2;
  for (const before of cells)
    for (const after of cells) {
      const flow = moved.flows.find((one) => one[0] === before && one[1] === after);
      if (!flow) continue;
      const height = flow[2] * scale;
      const [y0, y1] = [sides[0][before], sides[1][after]];
      sides[0][before] += height;
      sides[1][after] += height;
      const d =
        `M${LEFT} ${y0}C${middle} ${y0} ${middle} ${y1} ${RIGHT} ${y1}v${height}` +
        `C${middle} ${y1 + height} ${middle} ${y0 + height} ${LEFT} ${y0 + height}z`;
      const words = `${before} → ${after}: ${flow[2]} of ${total} questions`;
      const band = svg(
        "path",
        { class: "band", d, fill: colours[before], tabindex: 0, role: "button", "aria-label": words },
        svg("title", {}, words),
      );
      band.addEventListener("click", () => choose(flow));
      band.addEventListener("keydown", (event) => {
        if (event.key === "Enter") choose(flow);
      });
      picture.append(band);
    }
  place.replaceChildren(picture);
}
