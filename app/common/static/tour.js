// A tour of the page in four steps, offered at the first visit; that it was taken or skipped is remembered.

const SEEN = "a3tune-tour";
const GAP = 10;

const STEPS = [
  ["#examples", "An image", "Choose an example, or drop a file of your own below: PNG, JPEG, DICOM, NIfTI or a series. It is kept in memory, for this visit."],
  ["#question", "A question", "Write it, or take a suggestion, and press Ask. The model answers without and with its adapters."],
  ["#viewer .stage", "Where it looked", "Bright is much attention. Click a word of the answer for its own map, a region for the words and heads that look there."],
  [".tab-container[role=tablist]", "And then", "Tune trains an adapter on your data, Evaluate compares on many questions, Models loads others, Privacy says what is kept. The ? above explains every part."],
]; // prettier-ignore

function remembered() {
  try {
    return localStorage.getItem(SEEN) !== null;
  } catch {
    return true; // nothing can be remembered: nobody is asked again and again
  }
}

function remember() {
  try {
    localStorage.setItem(SEEN, "seen");
  } catch {
    // Nothing can be.
  }
}

// The invitation stands in the tagline's place, so that nothing moves when it goes.
export function showInvitation(head) {
  head.toggleAttribute("data-invites", !remembered());
}

export function createTour(head) {
  const box = head.querySelector(".tour");
  const ring = head.querySelector(".tour-ring");
  const next = box.querySelector(".next");
  let step = 0;

  const target = () => document.querySelector(STEPS[step][0]);

  function place() {
    const found = box.hidden ? null : target()?.getBoundingClientRect();
    if (!found) return;
    Object.assign(ring.style, {
      left: found.left - 4 + "px",
      top: found.top - 4 + "px",
      width: found.width + 8 + "px",
      height: found.height + 8 + "px",
    });
    const { width, height } = box.getBoundingClientRect();
    // Under what it tells of, above it, or where neither has room, over its end.
    const [under, above] = [found.bottom + GAP, found.top - GAP - height];
    const over = Math.max(GAP, innerHeight - height - GAP);
    const top = under + height <= innerHeight ? under : above >= GAP ? above : over;
    const left = Math.max(GAP, Math.min(found.left, innerWidth - width - GAP));
    Object.assign(box.style, { left: left + "px", top: top + "px" });
  }

  function show() {
    const [, title, words] = STEPS[step];
    box.querySelector("h2").textContent = title;
    box.querySelector("p").textContent = words;
    box.querySelector(".count").textContent = step + 1 + " of " + STEPS.length;
    next.textContent = step === STEPS.length - 1 ? "Done" : "Next";
    target()?.scrollIntoView({ block: "nearest" });
    box.hidden = ring.hidden = false;
    place();
    next.focus();
  }

  function end() {
    box.hidden = ring.hidden = true;
    remember();
    showInvitation(head);
    head.querySelector(".help").focus();
  }

  function start() {
    step = 0;
    document.querySelector(".tab-container[role=tablist] [data-tab-id=inspect]")?.click();
    show();
  }

  next.addEventListener("click", () => {
    step += 1;
    if (step < STEPS.length) show();
    else end();
  });
  box.querySelector(".skip").addEventListener("click", end);
  document.addEventListener("keydown", (event) => event.key === "Escape" && !box.hidden && end());
  head.querySelector(".take-tour").addEventListener("click", start);
  head.querySelector(".skip-tour").addEventListener("click", end);
  addEventListener("resize", place);
  addEventListener("scroll", place, { passive: true });
  return { start };
}
