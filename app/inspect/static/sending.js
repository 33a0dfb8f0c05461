// Own files on their way to the server: those that the browser sends, and those that were sent and are not opened yet.

// How long after its end the event of files that were sent may take, in milliseconds.
const PATIENCE = 1000;

let chosen = 0; // the number of the files that were chosen last
let taken = 0; // of those that were sent last
const waiting = []; // [files, number]: sent, and nobody was told of them
const known = new Set(); // paths of all that were sent

const isSending = () => Boolean(document.querySelector("#upload .uploading"));

// Files were sent. They leave their field at once, in which no later ones are yet: whoever empties it when these have
// been opened would empty it of those too. Gives the field's new value, none where others are being sent there.
export function takeFiles(files) {
  const fresh = (files || []).filter(({ path }) => !known.has(path));
  for (const { path } of fresh) known.add(path);
  taken = isSending() ? chosen - 1 : chosen;
  waiting.push([fresh, taken]);
  return isSending() ? undefined : null;
}

// What the event that opens the files sends to the server: those that were taken first, and their number.
export const takenFiles = () => waiting.shift() || [[], taken];

// Tells of files that are being sent ("sending"), and of those that did not arrive ("unsent"), by their number.
export function followSending(inputs, trigger) {
  let sending = false;
  const compare = () => {
    if (isSending() === sending) return;
    sending = !sending;
    if (sending) {
      trigger("sending", { number: ++chosen });
      return;
    }
    const number = chosen;
    setTimeout(() => taken < number && trigger("unsent", { number }), PATIENCE);
  };
  new MutationObserver(compare).observe(inputs, { subtree: true, childList: true });
}
