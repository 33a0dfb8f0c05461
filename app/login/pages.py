"""The pages of the login, in plain words; nothing on them comes from another host, and no script runs."""

from __future__ import annotations

import html

from a3tune.wording import RESEARCH_NOTICE

_STYLE = """
:root { color-scheme: light dark; --text: #17202b; --quiet: #4c5a69; --page: #eef1f4; --box: #fff; --line: #c9d1da;
  --accent: #0f766e; --alert: #b42318; }
@media (prefers-color-scheme: dark) { :root { --text: #dbe3ec; --quiet: #98a6b5; --page: #0d1117; --box: #141a22;
  --line: #2c3846; --accent: #127a71; --alert: #ff9b8f; } }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 25rem; margin: 12vh auto 2rem; padding: 1.5rem 1.75rem; background: var(--box);
  border: 1px solid var(--line); border-radius: 8px; }
h1 { margin: 0 0 .75rem; font-size: 1.25rem; }
p { margin: .6rem 0; }
.quiet { color: var(--quiet); font-size: .85rem; }
.alert { color: var(--alert); }
label { display: block; margin: .8rem 0; }
input { display: block; box-sizing: border-box; width: 100%; padding: .5rem; font: inherit; color: inherit;
  background: var(--page); border: 1px solid var(--line); border-radius: 4px; }
.button { display: inline-block; margin-top: .4rem; padding: .5rem 1.2rem; border: 0; border-radius: 4px; font: inherit;
  color: #fff; background: var(--accent); text-decoration: none; cursor: pointer; }
a { color: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""
_KEPT = (
    "What you open is kept in this server's memory until you close its page or sign out; data sets and runs lie in a "
    "folder of yours on its disk. What is done with them is noted with your name for whoever runs this server, without "
    "images, questions or answers."
)


def sign_in_page(root: str, issuer: str = "", fault: str = "") -> str:
    """Where one signs in.

    Args:
        root: under which path the page is served.
        issuer: the host of the identity provider; "" for names and passwords.
        fault: why the last try failed; "" for none.
    """
    told = f'<p class="alert" role="alert">{html.escape(fault)}</p>' if fault else ""
    if issuer:
        way = (
            f'<p><a class="button" href="{root}/login/start">Sign in at {html.escape(issuer)}</a></p>'
            '<p class="quiet">It asks for your password, and tells this server who you are and which groups you belong '
            "to. This server never sees the password.</p>"
        )
    else:
        way = (
            f'<form method="post" action="{root}/login">'
            '<label>Name <input name="name" autocomplete="username" required autofocus></label>'
            '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
            '<button class="button">Sign in</button></form>'
            '<p class="quiet">Whoever runs this server gives names and passwords.</p>'
        )
    return _page("Sign in", f'{told}<p>This server asks who you are.</p>{way}<p class="quiet">{_KEPT}</p>')


def message_page(
    title: str, words: str, root: str, again: str = "Sign in", *, out: str = "", alert: bool = False
) -> str:
    """A page that says something.

    Args:
        title, words: what.
        root: under which path the page is served.
        again: what stands on the way back; "" for none.
        out: where one signs out of the identity provider too; "" for nowhere.
        alert: whether something went wrong.
    """
    told = f'<p class="alert" role="alert">{html.escape(words)}</p>' if alert else f"<p>{html.escape(words)}</p>"
    back = f'<p><a class="button" href="{root}/login">{html.escape(again)}</a></p>' if again else ""
    leave = f'<p><a href="{html.escape(out)}">Sign out at the identity provider too</a></p>' if out else ""
    return _page(title, told + leave + back)


def _page(title: str, inner: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{html.escape(title)} · A3Tune Studio</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>A3Tune Studio</h1>{inner}"
        f'<p class="quiet">{html.escape(RESEARCH_NOTICE)}</p></main></body></html>'
    )
