// Own files on their way to the server: those that the browser sends, and those that were sent and are not opened yet.

import { isSending, takenFiles } from "../../common/static/file_field.js";

// How long after its end the event of files that were sent may take, in milliseconds.
const PATIENCE = 1000;

let chosen = 0; // the number of the files that were chosen last
let taken = 0; // of those that were sent last

// The number of the files that were chosen last: what is chosen after them comes in their place.
export const chosenFiles = () => chosen;

// What the event that opens the files sends to the server: those that were sent, and their number.
export function sentFiles() {
  taken = isSending("upload") ? chosen - 1 : chosen;
  return [takenFiles("upload"), taken];
}

// Tells of files that are being sent ("sending"), and of those that did not arrive ("unsent"), by their number.
export function followSending(inputs, trigger) {
  let sending = false;
  const compare = () => {
    if (isSending("upload") === sending) return;
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
