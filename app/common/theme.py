"""How the pages look: quiet greys, one accent, the visitor's own system fonts, so that nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLES = Path(__file__).resolve().parents[2] / "assets" / "studio.css"
TUNE_STYLES, EVALUATE_STYLES = STYLES.with_name("tune.css"), STYLES.with_name("evaluate.css")

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "DejaVu Sans Mono", "monospace")


def build_theme() -> gr.themes.Base:
    """The theme, light and dark."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_sm,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#eef1f4",
        body_background_fill_dark="#0d1117",
        body_text_color="#17202b",
        body_text_color_dark="#dbe3ec",
        body_text_color_subdued="#4c5a69",
        body_text_color_subdued_dark="#98a6b5",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#141a22",
        background_fill_secondary="#f4f6f8",
        background_fill_secondary_dark="#1b232d",
        block_background_fill="#ffffff",
        block_background_fill_dark="#141a22",
        border_color_primary="#c9d1da",
        border_color_primary_dark="#2c3846",
        block_border_color="#c9d1da",
        block_border_color_dark="#2c3846",
        input_background_fill="#ffffff",
        input_background_fill_dark="#0f151c",
        color_accent="#0f766e",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_dark="#127a71",
        button_primary_background_fill_hover="#0b5f58",
        button_primary_background_fill_hover_dark="#14857b",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
    )
