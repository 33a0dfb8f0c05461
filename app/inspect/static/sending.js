// Own files on their way to the server: those that the browser sends, and those that were sent and are not opened yet.

import { isSending, takenFiles } from "../../common/static/file_field.js";

// How long after its end the event of files that were sent may take, in milliseconds.
const PATIENCE = 1000;

// Under which the browser tab keeps the names of files that were sent, for as long as it is open.
const NAMES = "a3tune-file-names";

// Numbers of files go on where those of an earlier page of this visit ended. Every second one is left for files that
// were sent too quickly for anybody to notice.
const STEP = 2;
let chosen = Date.now(); // of those that were chosen last
let taken = chosen; // of those that were sent last

function names() {
  try {
    return JSON.parse(sessionStorage.getItem(NAMES)) || {};
  } catch {
    return {}; // Nothing was kept.
  }
}

function keepName(number, files) {
  if (!files.length) return;
  const [first, ...more] = files.map((file) => file.orig_name || "");
  const name = first && more.length ? first + " and " + more.length + " more" : first;
  try {
    sessionStorage.setItem(NAMES, JSON.stringify({ ...names(), [number]: name }));
  } catch {
    // A browser that keeps nothing for pages tells no names.
  }
}

// What the visitor's files of this number are called; "" where that is not known: the server keeps none.
export const nameOfFiles = (number) => names()[number] || "";

// The number of the files that were chosen last: what is chosen after them comes in their place.
export const chosenFiles = () => chosen;

// What the event that opens the files sends to the server: those that were sent, and their number.
export function sentFiles() {
  const files = takenFiles("upload");
  const others = isSending("upload"); // chosen after these
  const number = others ? chosen - STEP : chosen;
  // The number of files that were opened, or given up for something that was chosen after them, is not theirs.
  if (number > taken) taken = number;
  else if (files.length) taken = taken + 1 < chosen ? taken + 1 : (chosen += STEP);
  keepName(taken, files);
  return [files, taken];
}

// Tells of files that are being sent ("sending"), and of those that did not arrive ("unsent"), by their number.
export function followSending(inputs, trigger) {
  let sending = false;
  const compare = () => {
    if (isSending("upload") === sending) return;
    sending = !sending;
    if (sending) {
      trigger("sending", { number: (chosen += STEP) });
      return;
    }
    const number = chosen;
    setTimeout(() => taken < number && trigger("unsent", { number }), PATIENCE);
  };
  new MutationObserver(compare).observe(inputs, { subtree: true, childList: true });
}
