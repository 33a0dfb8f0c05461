// Work without a mouse: where Gradio's own widgets lose the focus, or leave it behind.

// A list that scrolls takes the focus from its field with Tab, closes, and leaves nothing that has it.
function keepListsOut() {
  for (const list of document.querySelectorAll(".options, .options [role=listbox]")) list.tabIndex = -1;
}

// Escape answers an open question with "Keep it".
function escape(target) {
  const question = target.closest("[id$=-question]");
  if (question) document.getElementById(question.id.replace(/question$/, "no"))?.click();
}

export function listenToKeyboard() {
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Tab") keepListsOut();
      if (event.key === "Escape") escape(event.target);
    },
    true,
  );
}

// The focus on an element that Gradio is about to show, or on the first of several that comes.
export async function focusOn(...ids) {
  for (let frames = 0; frames < 600; frames++) {
    const found = ids.map((id) => document.getElementById(id)).find((one) => one?.checkVisibility() && !one.disabled);
    if (found) return found.focus();
    await new Promise(requestAnimationFrame);
  }
}
