// What can be taken away, and what can be opened again.

const fileOf = (text, type) => new Blob([bytesOf(text)], { type });

// The state of the page that the figures are drawn by.
function settings() {
  return {
    board: data.board,
    result: sideA().result,
    sides: both().map((one) => ({ result: one.result, adapter: one.adapter, rows: rowsOf(one) })),
    heads: chosen.heads === "head" ? [chosen.layer, chosen.head] : chosen.heads,
    words: chosen.words,
    regions: [...regions.on],
    look: { ...look, levels },
  };
}

async function takeAway(form) {
  if (!views.length) return;
  const said = part("takeSaid");
  const buttons = element.querySelectorAll("[data-action=takeZip], [data-action=takePdf]");
  said.textContent = "Drawing the figures …";
  buttons.forEach((button) => (button.disabled = true));
  const reply = (await server.take_file({ ...settings(), form }).catch(() => null)) || NO_ANSWER;
  buttons.forEach((button) => (button.disabled = false));
  said.textContent = reply.error || "Saved as " + reply.name + ".";
  if (reply.error) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(fileOf(reply.file, reply.type));
  link.download = reply.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

element.querySelector("[data-action=takeZip]").addEventListener("click", () => takeAway("zip"));
element.querySelector("[data-action=takePdf]").addEventListener("click", () => takeAway("pdf"));

// ---- the last inspections of this visit ----------------------------------------------------------------

function buildHistory() {
  const list = part("history");
  list.replaceChildren();
  part("historyHint").hidden = data.history.length > 0;
  for (const past of data.history) {
    const item = document.createElement("li");
    const picture = document.createElement("img");
    picture.src = past.thumbnail;
    picture.alt = "";
    const words = document.createElement("div");
    const question = document.createElement("b");
    question.textContent = past.question;
    const answers = document.createElement("p");
    answers.className = "fine";
    answers.textContent = past.answers.map(([adapter, answer]) => adapter + ": " + (answer || "(empty)")).join(" · ");
    words.append(question, answers);
    item.append(picture, words);
    if (data.result && past.result === data.result.id) {
      const here = document.createElement("span");
      here.className = "fine";
      here.textContent = "on show";
      item.append(here);
    } else {
      item.append(pastButton("Open", "open", past.result));
      if (data.result && data.image && past.image === data.image.key) item.append(pastButton("Compare", "compare", past.result));
    }
    list.append(item);
  }
}

function pastButton(words, action, result) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.textContent = words;
  button.dataset.past = action;
  button.dataset.result = result;
  return button;
}

part("history").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-past]");
  if (!button) return;
  if (button.dataset.past === "open") {
    trigger("reopen", { result: button.dataset.result });
    return;
  }
  const before = data;
  const reply = (await server.past_result({ result: button.dataset.result }).catch(() => null)) || NO_ANSWER;
  if (data !== before) return;
  part("historySaid").textContent = reply.error || "";
  if (!reply.error) compareWith(reply);
});

// Another question about the same image beside this one: its view by the same adapter becomes side A.
function compareWith(result) {
  const here = front().result === data.result.id ? front() : views.find((one) => one.result === data.result.id);
  views = [...views.filter((one) => one.result !== result.id), ...viewsOf(result)];
  const there = views.find((one) => one.result === result.id && one.adapter === here.adapter) || views.find((one) => one.result === result.id);
  pair.mode = "side";
  choosePair(views.indexOf(there), views.indexOf(here));
  chooseTab("compare");
  measureRegions();
}
