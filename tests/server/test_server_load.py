"""Many clients at once, some of which leave: no crash, no leak, no cross-talk."""

import asyncio
import json
import random
from pathlib import Path

import httpx
import pytest
from server.serving import serving

AT_ONCE = 64
PROMPTS = [
    "The cat sat on",
    "Grüße aus dem Süden",
    "🙂" * 7,
    "\u202eright to left\u202c",
    "e\u0301\u0300" * 5,
    "\x00\x01 control",
    "<|im_end|> as text",
    "a" * 90,
    "עברית ו العربية",
    "\ufdd0 noncharacter",
    " ",
    "\n\n\t",
]
TOKENS = 12
WARM = 64
"""Requests before memory is looked at: by then every slot and every connection was used."""

BOUND = 24e6
"""Bytes that the process may hold more after all requests than after the first ones."""


def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


async def ask(client, rng, answers):
    """One request, whole or streamed, that the client may give up on; its answer is the one it has alone."""
    prompt = rng.choice(PROMPTS)
    body = {"prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    leaves = rng.random() < 0.25
    if rng.random() < 0.5:
        work = client.post("/v1/completions", json=body)
        try:
            response = await (asyncio.wait_for(work, rng.random() * 0.2) if leaves else work)
        except TimeoutError:
            return "left"
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["text"] == answers[prompt]
        return "whole"
    text = ""
    pieces = rng.randrange(TOKENS) if leaves else None
    async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                text += chunk["choices"][0]["text"]
            if pieces is not None and len(text) >= pieces:
                assert answers[prompt].startswith(text)
                return "left"
    assert text == answers[prompt]
    return "streamed"


async def storm(url, count, answers, seed):
    rng, turns = random.Random(seed), asyncio.Semaphore(AT_ONCE)
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def one():
            async with turns:
                return await ask(client, rng, answers)

        ends = await asyncio.gather(*(one() for _ in range(count)))
        await asyncio.sleep(0.1)
        metrics = (await client.get("/metrics")).text
    return ends, {line.split()[0]: float(line.split()[1]) for line in metrics.splitlines() if line[:1] != "#"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_storm_of_requests(load_tiny, alone, count):
    tokens = {prompt: alone.tokenizer.encode(prompt, parse_special=True) for prompt in PROMPTS}
    answers = {prompt: alone.generate(tokens[prompt], max_tokens=TOKENS).text for prompt in PROMPTS}
    with load_tiny() as model, serving(model, slots=8, queue=AT_ONCE) as url:
        asyncio.run(storm(url, WARM, answers, seed=0))
        before = resident_bytes()
        ends, metrics = asyncio.run(storm(url, count, answers, seed=1))
        after = resident_bytes()
    assert {"left", "whole", "streamed"} == set(ends)
    assert len(ends) == count
    assert metrics["shortlist_engine_failed_total"] == 0
    assert metrics["shortlist_engine_running"] == metrics["shortlist_engine_waiting"] == 0
    assert after - before < BOUND
