// Files in the fields where they are chosen. What was taken leaves its field here, before anything else can be chosen in
// it: emptied by the server, which answers later, a field would lose what was chosen meanwhile.

const gone = new Set(); // paths of all files that were taken
const held = new Map(); // by a field's id, the button that was pressed while files were being sent there

// By the id of a button that takes files: that of their field.
const FIELDS = { "batch-go": "batch-files", "tune-take": "tune-files" };

const listed = (files) => [files || []].flat();
export const isSending = (id) => Boolean(document.querySelector(`#${id} .uploading`));

// Those of a field's files that nobody took yet.
export const freshFiles = (files) => listed(files).filter(({ path }) => !gone.has(path));

export function takeFiles(files) {
  const fresh = freshFiles(files);
  for (const { path } of fresh) gone.add(path);
  return fresh;
}

// The field's new value, without what was taken; none where nothing was, and while others are being sent there, which a
// new value would end.
export function leftFiles(id, files) {
  const left = freshFiles(files);
  if (isSending(id) || left.length === listed(files).length) return undefined;
  return left.length ? left : null;
}

// The server told which files it took.
export function settleFiles(id, files, taken) {
  takeFiles(taken);
  return leftFiles(id, files);
}

// Files have come into a field whose button takes them: gives the field's new value, and presses a button that waited.
export function arrivedFiles(id, files) {
  const button = held.get(id);
  held.delete(id);
  if (button) setTimeout(() => button.click());
  return leftFiles(id, files);
}

// A button that takes files waits for those that are still being sent: without them it would take less than was chosen.
export function holdPresses() {
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target.closest?.("button");
      const id = FIELDS[button?.id];
      if (!id || !isSending(id)) return;
      event.stopImmediatePropagation();
      held.set(id, button);
    },
    true,
  );
}
