"""What the server sends of itself: words of the answer on show are taken in, others are not."""

from __future__ import annotations

import pytest

RUN = """async ([values, together]) => {
    const { ViewState } = await import("/inspect/viewer/state.js");
    const { createUpdates } = await import("/inspect/viewer/updates.js");
    const anything = () => new Proxy(function () {}, {
        get: (_, name) => name === "querySelectorAll" ? () => [] : name === "then" ? undefined : anything(),
        apply: () => anything(),
        set: () => true,
    });
    const state = new ViewState();
    const told = [];
    const drawn = [];
    const draw = () => drawn.push(state.shownPicture?.getAttribute("src"));
    const regions = { receive: (grows) => told.push(grows) };
    const slices = { isPast: () => false, receive: () => {} };
    const viewer = new Proxy({ state, draw, regions, slices }, {
        get: (known, name) => name in known ? known[name] : anything(),
    });
    const updates = createUpdates(viewer);
    const seen = [];
    if (together) {
        await Promise.all(values.map((value) => updates.receive(JSON.stringify(value))));
        return [state.shownPicture?.getAttribute("src"), drawn];
    }
    for (const value of values) {
        await updates.receive(JSON.stringify(value));
        const second = state.views[1]?.answer;
        seen.push([state.sideA.answer, state.sideA.writing, state.chosen.words, told.at(-1), told.length, second]);
    }
    return seen;
}"""
PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
OTHER = PICTURE.replace("data:image/gif", "data:image/gif;name=other")


def result(answer, *, name="one", writing=True, before=()):
    view = {
        "adapter": "lora" if before else "base",
        "answer": answer,
        "critical": [[0, 1]],
        "tokens": [{"row": 0, "role": "answer", "text": answer, "special": False}],
        "maps": {"critical": "", "mean": ""},
        "head_means": {"answer": None, "question": None},
        "sinks": [],
        "experts": None,
    }
    return {"id": name, "question": "q", "patches": 0, "tiles": [], "writing": writing, "views": [*before, view]}


@pytest.fixture(scope="module")
def seen(module_page):
    image = {"src": PICTURE, "label": {"what": "", "window": "", "size": ""}, "width": 1, "height": 1}
    first = {"image": image, "session": "s", "history": [], "result": result("The")}
    more = {"written": result("A", before=[None]), "session": "s"}
    return module_page.evaluate(
        RUN,
        [
            [
                first,
                {"written": result("The liver"), "session": "s"},
                {"written": result("Another"), "session": "another image"},
                {"written": result("Another", name="two"), "session": "s"},
                more,
                {**first, "result": result("The liver.", writing=False)},
                more,
                {"written": result("A lung", before=[None]), "session": "s"},
            ],
            False,
        ],
    )


def test_words_of_the_answer_on_show_are_taken_in(seen):
    assert seen[0] == ["The", True, "answer", False, 1, None]
    assert seen[1] == ["The liver", True, "answer", True, 2, None]
    assert seen[5] == ["The liver.", False, "answer", True, 3, None]


def test_the_next_answers_words_come_without_the_views_that_are_here_whole(seen):
    assert seen[4] == seen[3]  # the first answer is not yet whole
    assert seen[6] == ["The liver.", False, "answer", True, 4, "A"]
    assert seen[7] == ["The liver.", False, "answer", True, 5, "A lung"]


def test_words_about_another_image_or_result_change_nothing(seen):
    assert seen[2] == seen[3] == seen[1]


@pytest.mark.parametrize("told_twice", [False, True])
def test_the_last_image_is_drawn_also_when_more_is_told_of_it_before_it_is_decoded(module_page, told_twice):
    label = {"what": "", "window": "", "size": ""}
    one, other = ({"src": src, "label": label, "width": 1, "height": 1} for src in (PICTURE, OTHER))
    values = [{"image": image, "session": "", "history": [], "result": None} for image in (one, other)]
    if told_twice:
        values.append({**values[1], "session": "s"})
    shown, drawn = module_page.evaluate(RUN, [values, True])
    assert shown == OTHER
    assert set(drawn) == {OTHER}
