// Regions of a few rows: press one to keep or drop it, drag to draw one. The value is a JSON text with the rows; see
// app.tune.data.regions.row_value. Every change is written at once, so that the next run uses it.

import { make, svg } from "../../common/static/dom.js";
import { answerOf } from "../../common/static/server.js";

export default function mount({ element, props, server, watch }) {
  const rows = element.querySelector(".rows");
  const cards = rows.querySelector(".cards");
  let data = null;
  // One correction after the other: each is of what the one before it left.
  let sent = Promise.resolve();

  function send(number, action, more) {
    const asked = data;
    cards.children[number].setAttribute("aria-busy", "true");
    sent = sent.then(() => correct(asked, number, action, more));
  }

  async function correct(asked, number, action, more) {
    if (data !== asked) return; // other questions are on show
    const card = cards.children[number];
    card.setAttribute("aria-busy", "true");
    card.querySelector(".trouble").textContent = "";
    const { visitor, data: name } = asked;
    const reply = await answerOf(
      server.correct_labels({ visitor, data: name, number, action, ...more(asked.rows[number]) }),
    );
    if (data !== asked) return;
    card.removeAttribute("aria-busy");
    if (reply.error) {
      card.querySelector(".trouble").textContent = reply.error;
    } else {
      data.rows[number] = reply.row;
      fill(number);
    }
  }

  function toggle(number, key) {
    const turned = ({ regions }) => regions.filter((region) => (region.key === key) !== region.chosen);
    send(number, "choose", (row) => ({ keys: turned(row).map((region) => region.key) }));
  }

  function fill(number) {
    const row = data.rows[number];
    const card = cards.children[number];
    card.dataset.corrected = row.corrected;
    card.dataset.chosen = row.regions.filter((region) => region.chosen).length;
    const picture = svg("svg", {
      viewBox: `0 0 ${row.width} ${row.height}`,
      role: "group",
      "aria-label": row.question,
    });
    picture.append(svg("image", { href: row.picture, width: row.width, height: row.height }));
    // Large regions first, so that small ones inside them can be pressed; what is chosen lies on top.
    const length = (region) => region.outlines.reduce((sum, line) => sum + line.length, 0);
    for (const region of [...row.regions].sort(
      (one, other) => one.chosen - other.chosen || length(other) - length(one),
    )) {
      const path = svg("path", {
        d: outlines(region),
        "fill-rule": "evenodd",
        tabindex: 0,
        role: "button",
        "aria-pressed": region.chosen,
        "aria-label": "Region with score " + region.score,
      });
      path.dataset.key = region.key;
      path.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          toggle(number, region.key);
        }
      });
      picture.append(path);
    }
    let start = null;
    let box = null;
    const place = (event) => {
      const frame = picture.getBoundingClientRect();
      return [
        ((event.clientX - frame.left) / frame.width) * row.width,
        ((event.clientY - frame.top) / frame.height) * row.height,
      ];
    };
    picture.addEventListener("pointerdown", (event) => {
      start = place(event);
      picture.setPointerCapture(event.pointerId);
    });
    picture.addEventListener("pointermove", (event) => {
      if (!start) return;
      const end = place(event);
      if (!box && Math.hypot(end[0] - start[0], end[1] - start[1]) < row.width / 40) return;
      if (!box) {
        box = svg("rect", { class: "drawing" });
        picture.append(box);
      }
      const corner = [Math.min(start[0], end[0]), Math.min(start[1], end[1])];
      box.setAttribute("x", corner[0]);
      box.setAttribute("y", corner[1]);
      box.setAttribute("width", Math.abs(end[0] - start[0]));
      box.setAttribute("height", Math.abs(end[1] - start[1]));
    });
    picture.addEventListener("pointerup", (event) => {
      if (!start) return;
      const pressed = document
        .elementsFromPoint(event.clientX, event.clientY)
        .find((found) => found.dataset && found.dataset.key);
      if (box) {
        const drawn = ["x", "y", "width", "height"].map((name) => Number(box.getAttribute(name)));
        send(number, "draw", () => ({ box: drawn }));
        box.remove();
      } else if (pressed) {
        toggle(number, pressed.dataset.key);
      }
      start = box = null;
    });
    card.querySelector(".picture").replaceChildren(picture);
  }

  const counting = () => data.rows.filter((row) => row.regions.some((region) => region.chosen)).length;

  function receive() {
    data = props.value ? JSON.parse(props.value) : null;
    rows.dataset.state = data ? "ready" : "empty";
    rows.querySelector(".note").textContent =
      data && data.note
        ? data.note
        : data
          ? `${counting()} of ${data.rows.length} questions here have a region that counts. At most ${data.most} ${data.most === 1 ? "region counts" : "regions count"} for each question. Press a region to keep or drop it, drag to draw one. Changes are kept with the data and used by the next run.`
          : "Show where the attention of a handful of questions would be drawn to, and correct it.";
    cards.replaceChildren();
    if (!data) return;
    data.rows.forEach((row, number) => {
      const box = (className, ...words) => make("div", { className }, ...words);
      const facts = box(
        "facts",
        box("question", row.question),
        make("b", { className: "answer" }, row.answer),
        box("place", row.place),
      );
      facts.append(make("div", { className: "trouble", role: "alert" }));
      const card = box("card", box("picture"), facts);
      cards.append(card);
      fill(number);
    });
  }

  watch("value", receive);
  receive();
}

// A region's contours (flat lists x, y, x, y, ...) as an SVG path.
function outlines(region) {
  return region.outlines
    .map((line) => {
      let path = "";
      for (let place = 0; place < line.length; place += 2)
        path += (place ? "L" : "M") + (line[place] + 0.5) + " " + (line[place + 1] + 0.5);
      return path + "Z";
    })
    .join("");
}
