"""What names people and their things: each a text of its own type, so that none is handed over for another."""

from typing import NewType

OwnerId = NewType("OwnerId", str)
"""Whose something is: the hash of a visitor's secret, as `app.common.identity.owner_of` gives it."""

DataSetId = NewType("DataSetId", str)
"""One of a visitor's data sets: the name of its folder."""

JobId = NewType("JobId", str)
"""One of a visitor's runs: the name of its folder."""

AdapterName = NewType("AdapterName", str)
"""An adapter as a visitor finds it in lists: "base", one that all share, or one of their own."""

SessionId = NewType("SessionId", str)
"""One page in one browser, from its loading until it is closed: the name that Gradio draws for it."""

RegionSessionId = NewType("RegionSessionId", str)
"""One image on show, whose regions can be found and ranked."""

ResultId = NewType("ResultId", str)
"""One inspection that was made."""

CheckId = NewType("CheckId", str)
"""One check of a map that is running."""

BatchId = NewType("BatchId", str)
"""One question about many images."""
