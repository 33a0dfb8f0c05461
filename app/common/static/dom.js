// Elements and files, made in one expression.

// What is no property of the element (aria-*, and all of SVG) is set as an attribute.
function fill(node, { dataset = {}, ...properties }, children) {
  Object.assign(node.dataset, dataset);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node && !(node instanceof SVGElement)) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const make = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export const press = (button, on) => button.setAttribute("aria-pressed", String(Boolean(on)));

// A table's row, each cell with a text or an element.
export const tableRow = (cells, properties = {}) =>
  make("tr", properties, ...cells.map((content) => make("td", {}, content)));

// Lets the browser keep bytes as a file: no file with an address of its own is made for it on the server.
export function saveFile(bytes, type, name) {
  const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
