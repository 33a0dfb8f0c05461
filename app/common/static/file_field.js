// Files in the fields where they are chosen. What was taken leaves its field here, before anything else can be chosen in
// it: emptied by the server, which answers later, a field would lose what was chosen meanwhile.

const gone = new Set(); // paths of all files that were taken
const waiting = new Map(); // by a field's id, what was taken there and nobody was told of
const busy = new Set(); // ids of the fields whose files a button took, as long as that works
const held = new Map(); // by a field's id, the button that was pressed while files were being sent there

// By the id of a button that takes files: that of their field.
const FIELDS = { "batch-go": "batch-files", "tune-take": "tune-files" };

const listed = (files) => [files || []].flat();
export const isSending = (id) => Boolean(document.querySelector(`#${id} .uploading`));

// Those of a field's files that nobody took yet.
export const freshFiles = (files) => listed(files).filter(({ path }) => !gone.has(path));

function markGone(files) {
  for (const { path } of files) gone.add(path);
}

// Takes a field's files, and gives its new value; what a button that is at work would not take stays.
export function takeFiles(id, files) {
  if (busy.has(id)) return undefined;
  const fresh = freshFiles(files);
  markGone(fresh);
  waiting.set(id, [...(waiting.get(id) || []), fresh]);
  return leftFiles(id, files);
}

// What the server is told of: those that were taken first.
export const takenFiles = (id) => waiting.get(id)?.shift() || [];

// The same for a button, until it has done its work.
export function takenByButton(id) {
  busy.add(id);
  return takenFiles(id);
}

export const endWork = (id) => void busy.delete(id);

// The field's new value, without what was taken; none where nothing was, and while others are being sent there, which a
// new value would end.
export function leftFiles(id, files) {
  const left = freshFiles(files);
  if (isSending(id) || left.length === listed(files).length) return undefined;
  return left.length ? left : null;
}

// The server told which files it took.
export function settleFiles(id, files, taken) {
  markGone(taken || []);
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
