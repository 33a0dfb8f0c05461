"""What the page says is kept."""

from __future__ import annotations

from app.access.deployment import DEPLOYMENTS
from app.privacy.tab import kept_words


def test_each_deployment_says_how_long_and_strangers_learn_no_path():
    told = {name: dict(kept_words(deployment, "/srv/studio")) for name, deployment in DEPLOYMENTS.items()}
    kept = {name: words["Data sets, runs, adapters and evaluations"] for name, words in told.items()}
    assert "until you delete or forget it; it outlives a restart" in kept["local"]
    assert "until 10 minutes after you closed your last page" in kept["space"]
    assert "until 60 minutes after you closed your last page" in kept["server"]
    assert ["/srv/studio" in words for words in kept.values()] == [True, False, False]
