"""Pictures in the browser: given once they are decoded, or at least whole."""

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Error

from a3tune.encoding import data_url
from app.common.modules import modules_script

BROKEN = "data:image/png;base64,AAAA"


@pytest.fixture
def page(browser):
    """A page that has read the script and nothing else."""
    page = browser.new_page()
    page.set_content(f"<html><body><script>{modules_script()}</script></body></html>")
    yield page
    page.close()


def picture() -> str:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(stream, "PNG")
    return data_url(stream.getvalue(), "png")


DECLINE = """() => {
    const { decode } = HTMLImageElement.prototype;
    HTMLImageElement.prototype.decode = async function () {
        await decode.call(this);
        throw new DOMException("The source image cannot be decoded.", "EncodingError");
    };
}"""


@pytest.mark.parametrize("declined", [False, True])
def test_a_whole_picture_is_given_though_the_browser_declines_to_decode_it_ahead(page, declined):
    if declined:
        page.evaluate(DECLINE)
    size = page.evaluate(
        """async (src) => {
            const picture = await studioModule("common/static/picture.js").decoded(src);
            return [picture.naturalWidth, picture.naturalHeight];
        }""",
        picture(),
    )
    assert size == [60, 40]


def test_a_broken_picture_is_an_error(page):
    with pytest.raises(Error, match="cannot be decoded"):
        page.evaluate("""(src) => studioModule("common/static/picture.js").decoded(src)""", BROKEN)
