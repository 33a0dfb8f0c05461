// Regions on the stage: outlines with their numbers, and the words under the pointer.

import { make } from "../../common/static/dom.js";
import { regionWords } from "./region_panel.js";

export function createRegionOutlines(viewer) {
  const { element, part, state, canvas } = viewer;
  const tip = part("tip");
  let visible = true;
  let hovered = ""; // key of the region under the pointer or the focus

  const isShown = (row) => state.regions.on.has(row.key) || row.key === hovered;

  // Those of a view that is measured inside regions of another question are not on the page.
  function draw(context, place, view) {
    if (!visible || (view && state.numbersInRegions(view)?.inside)) return;
    const rows = state.regions.rows.filter(isShown);
    // The best last, so that it lies on top.
    for (const row of [...rows].reverse()) drawOutline(context, place, row);
    const taken = [];
    for (const row of rows) drawNumber(context, place, row, taken);
  }

  function drawOutline(context, place, row) {
    const path = state.regions.paths.get(row.key);
    const here = row.key === hovered;
    context.save();
    context.setTransform(place.scale, 0, 0, place.scale, place.x, place.y);
    context.lineJoin = "round";
    const width = ((here ? 3 : 1.75) * place.ratio) / place.scale;
    context.setLineDash(state.regions.on.has(row.key) ? [] : [3 * width, 2 * width]);
    context.strokeStyle = "rgb(0 0 0 / .6)";
    context.lineWidth = 2 * width;
    context.stroke(path);
    context.strokeStyle = row.colour;
    context.lineWidth = width;
    context.stroke(path);
    if (here) {
      context.globalAlpha = 0.16;
      context.fillStyle = row.colour;
      context.fill(path, "evenodd");
    }
    context.restore();
  }

  // The smallest region at a point, of those that are switched on.
  function at(x, y) {
    if (!visible) return null;
    const { rows, on, paths } = state.regions;
    const context = canvas.getContext("2d");
    context.save();
    context.resetTransform();
    const hit = rows.filter((row) => on.has(row.key) && context.isPointInPath(paths.get(row.key), x, y, "evenodd"));
    context.restore();
    return hit.sort((one, other) => one.area - other.area)[0] || null;
  }

  function hover(key) {
    if (key === hovered) return;
    hovered = key;
    element
      .querySelectorAll(".regions tr[data-key]")
      .forEach((line) => line.classList.toggle("hovered", line.dataset.key === key));
    viewer.draw();
  }

  // A region's words beside a point of the stage, whose box this is; none for no region.
  function showTip(row, left, top, box) {
    tip.hidden = !row;
    hover(row ? row.key : "");
    if (!row) return;
    tip.replaceChildren(
      make("b", { textContent: regionWords(row) }),
      make("span", { textContent: "for “" + row.phrase + "”" }),
    );
    tip.style.borderColor = row.colour;
    const room = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(left + 14, box.width - room.width - 4)) + "px";
    tip.style.top = (top + 18 + room.height > box.height ? top - room.height - 10 : top + 18) + "px";
  }

  element.querySelector("[data-control=outlines]").addEventListener("change", (event) => {
    visible = event.target.checked;
    viewer.draw();
  });

  return { draw, at, hover, showTip };
}

// The rank on a dark disc where the region is widest; beside it where another number stands already.
function drawNumber(context, place, row, taken) {
  const size = 8.5 * place.ratio;
  let x = place.x + (row.anchor[0] + 0.5) * place.scale;
  const y = place.y + (row.anchor[1] + 0.5) * place.scale;
  while (taken.some(([u, v]) => Math.hypot(u - x, v - y) < 2 * size)) x += 2 * size;
  taken.push([x, y]);
  context.save();
  context.beginPath();
  context.arc(x, y, size, 0, 2 * Math.PI);
  context.fillStyle = "rgb(8 12 18 / .82)";
  context.fill();
  context.lineWidth = 1.5 * place.ratio;
  context.strokeStyle = row.colour;
  context.stroke();
  context.fillStyle = "#fff";
  context.font = "600 " + 10.5 * place.ratio + "px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(row.rank, x, y + 0.5 * place.ratio);
  context.restore();
}
