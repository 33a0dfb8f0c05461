// The rows of the table: what their cells hold, and their order.

import { make } from "../../../common/static/dom.js";
import { multiple, percent } from "../../../common/static/format.js";

// The columns for these adapters: name, kind, and whose it is.
export const columnsOf = (adapters) => [
  { name: "File", kind: "file" },
  ...adapters.map((adapter) => ({ name: "Answer, " + adapter, kind: "answer", adapter })),
  ...adapters.map((adapter) => ({ name: "Attention inside, " + adapter, kind: "number", adapter })),
];

// What a row has in a column; null for nothing.
function valueOf(row, { kind, adapter }) {
  if (kind === "file") return row.name;
  return (kind === "answer" ? row.answers : row.inside)[adapter] ?? null;
}

// The rows by a column, those that have nothing there last whichever way; without one as they were given. Equal ones
// stay in that order.
export function sortedRows(rows, column, descending) {
  const given = (one, other) => one.number - other.number;
  if (!column) return [...rows].sort(given);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  return [...rows].sort((one, other) => {
    const [a, b] = [one, other].map((row) => valueOf(row, column));
    const missing = Number(a === null) - Number(b === null);
    if (missing || a === null) return missing || given(one, other);
    return (descending ? -1 : 1) * compare(a, b) || given(one, other);
  });
}

export function headOf(columns, order, choose) {
  const cells = columns.map((column, place) => {
    const button = make("button", { type: "button", className: "sort" }, column.name);
    button.addEventListener("click", () => choose(place));
    const way = order.column === place ? (order.descending ? "descending" : "ascending") : "none";
    return make("th", { scope: "col", "aria-sort": way, className: column.kind === "number" ? "number" : "" }, button);
  });
  return make("tr", {}, make("th", { scope: "col" }, make("span", { className: "unseen" }, "Picture")), ...cells);
}

export function rowOf(row, columns) {
  const picture = row.picture
    ? make("img", { src: row.picture, alt: "" })
    : make("span", { className: "none", "aria-hidden": "true" });
  const line = make("tr", { dataset: { number: row.number } }, make("td", { className: "picture" }, picture));
  const name = row.error
    ? make("span", {}, row.name)
    : make("button", { type: "button", className: "open", title: "Open in the viewer" }, row.name);
  const note = row.note ? [make("small", {}, row.note)] : [];
  line.append(make("td", { className: "file" }, name, ...note));
  if (row.error) {
    line.className = "broken";
    line.append(make("td", { className: "error", colSpan: columns.length - 1 }, row.error));
    return line;
  }
  for (const column of columns.slice(1)) {
    const value = valueOf(row, column);
    const cell = make("td", { className: column.kind, dataset: { label: column.name } });
    if (column.kind === "answer") cell.append(value === "" ? "(no words)" : (value ?? ""));
    else if (value === null) cell.append("–");
    else cell.append(percent(value), make("small", {}, multiple(row.chance[column.adapter]) + " chance"));
    if (column.kind === "number") cell.title = row.regions;
    line.append(cell);
  }
  return line;
}
