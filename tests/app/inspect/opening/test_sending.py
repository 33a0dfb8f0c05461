"""Own files on their way: the numbers under which the page and the server know them."""

from __future__ import annotations

from playwright.sync_api import Page

# Files of one name after another come into the field, with others being sent there or not; the numbers that the server
# is told, and before them the number that an example gives up which is chosen first.
NUMBERS = """async (others) => {
    const field = await import("/common/static/file_field.js");
    const sending = await import("/inspect/static/sending.js");
    document.body.innerHTML = '<div id="upload"></div>';
    const numbers = [sending.chosenFiles()];
    for (const [place, more] of others.entries()) {
        document.querySelector("#upload").innerHTML = more ? '<i class="uploading"></i>' : "";
        field.takeFiles("upload", [{ path: "/" + numbers + place, orig_name: "scan.png" }]);
        numbers.push(sending.sentFiles()[1]);
    }
    document.body.innerHTML = "";
    return numbers;
}"""


def test_files_that_were_sent_unnoticed_have_a_number_of_their_own(module_page: Page):
    given_up, *sent = module_page.evaluate(NUMBERS, [False, False, True])
    assert given_up < sent[0] < sent[1] < sent[2]


def test_nothing_that_was_sent_takes_no_number(module_page: Page):
    before, after = module_page.evaluate(
        """async () => {
            const sending = await import("/inspect/static/sending.js");
            const before = sending.chosenFiles();
            sending.sentFiles();
            return [before, sending.chosenFiles()];
        }"""
    )
    assert after == before
