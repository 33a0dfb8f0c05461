"""Which routes there are: those that the page needs, and none of Gradio's others."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from gradio.routes import App

from app.access.routes import ROUTES, is_route, routes_table

# Gradio's routes that the page asks for; a new one of Gradio's is not there until it is named here and in ROUTES.
ASKED = {
    "GET /",
    "HEAD /",
    "GET /static/{path:path}",
    "GET /assets/{path:path}",
    "GET /theme.css",
    "GET /gradio_api/theme.css",
    "GET /favicon.ico",
    "GET /robots.txt",
    "GET /config",
    "GET /config/",
    "GET /gradio_api/info",
    "GET /gradio_api/info/",
    "GET /gradio_api/app_id",
    "GET /gradio_api/app_id/",
    "GET /gradio_api/startup-events",
    "GET /gradio_api/heartbeat/{session_hash}",
    "GET /gradio_api/queue/data",
    "GET /gradio_api/upload_progress",
    "POST /gradio_api/upload",
    "POST /gradio_api/queue/join",
    "POST /gradio_api/run/{api_name}",
    "POST /gradio_api/run/{api_name}/",
    "POST /gradio_api/component_server",
    "POST /gradio_api/component_server/",
    "POST /gradio_api/cancel",
}


def _every_route(routes, prefix=""):
    for route in routes:
        if hasattr(route, "original_router"):  # what was included as a whole
            yield from _every_route(route.original_router.routes, prefix)
        elif getattr(route, "routes", None):
            yield from _every_route(route.routes, prefix + route.path)
        else:
            for method in getattr(route, "methods", None) or ["GET"]:
                yield method, prefix + route.path


def test_of_gradios_own_routes_those_are_there_that_the_page_asks_for():
    async def build():  # Gradio looks for a running loop
        with gr.Blocks() as blocks:
            gr.HTML("")
        return App.create_app(blocks, app_kwargs={}).routes

    # In a thread of its own: the browser's loop may be running in this one.
    with ThreadPoolExecutor(1) as pool:
        found = list(_every_route(pool.submit(asyncio.run, build()).result()))
    assert len(found) > 60
    samples = {"session_hash": "abc123", "api_name": "predict", "path:path": "a/b.js"}
    there = {
        f"{method} {path}"
        for method, path in found
        if is_route(method, re.sub(r"\{([^}]+)\}", lambda name: samples.get(name[1], "x"), path))
    }
    assert there == ASKED


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/deep_link",
        "/gradio_api/process_recording",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/proxy=https://huggingface.co/",
        "/gradio_api/runs",
        "/gradio_api/run-history/records",
        "/gradio_api/vibe-edit",
        "/gradio_api/vibe-code/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/dev/reload",
        "/gradio_api/queue/status",
        "/gradio_api/call/predict",
        "/gradio_api/run/model_status",
        "/gradio_api/stream/abc",
        "/login",
        "/logout",
        "/docs",
        "/openapi.json",
        "/assets/../config",
        "/assets//etc/passwd",
        "/static/.env",
        "//",
        "/gradio_api/queue/join\n",
    ],
)
def test_what_the_page_does_not_need_is_not_there(path):
    assert [
        method for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") if is_route(method, path)
    ] == []


def test_every_route_says_why():
    assert all(route.why and f"`{route.shown}` | {route.why}" in routes_table() for route in ROUTES)
