"""The parts that endpoints share, without a server."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
from engine.fakes import fake_model

from shortlist.engine.batch import BatchEngine, QueueFull
from shortlist.engine.events import DoneEvent, PromptEvent, TokenEvent
from shortlist.engine.options import GenerationOptions
from shortlist.errors import CheckpointError, UsageError
from shortlist.server.errors import ApiError
from shortlist.server.generate import Texts, Wanted, wanted
from shortlist.server.messages import Message
from shortlist.server.schemas import CompletionBody
from shortlist.server.service import Answer, Service
from shortlist.server.settings import CHARACTERS_PER_TOKEN, ServerSettings
from shortlist.server.values import GREATEST_SEED


@pytest.fixture
def serve():
    """A service of fakes."""
    services = []

    def start(script=b"a" * 100, *, context_length=64, kv_tokens=None, seconds=0.0, **settings):
        model = fake_model(script, context_length=context_length, seconds=seconds)
        settings = ServerSettings(**{"name": "tiny", **settings})
        services.append(Service(BatchEngine(model, kv_tokens=kv_tokens), settings))
        return services[-1]

    yield start
    for service in services:
        service.close()


# ---- a request in Python's terms ------------------------------------------------------------------------


def asked(service, **body):
    body = CompletionBody(prompt="x", **body)
    return wanted(body, service, default=16, logprobs=None, constraint=None)


def test_what_a_body_leaves_open_is_as_openai_has_it(serve):
    found = asked(serve())
    assert (found.most, found.count) == (16, 1)
    assert found.options == GenerationOptions(temperature=1.0)


def test_what_a_body_says_reaches_the_options(serve):
    values = {
        "temperature": 0.5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "seed": 7,
        "top_k": 5,
    }
    found = asked(serve(), **values, stop=["a"], logit_bias={"5": -3}, max_tokens=4, n=2)
    expected = GenerationOptions(**values, stop=["a"], logit_bias={5: -3})
    assert (found.options, found.most, found.count) == (expected, 4, 2)
    assert asked(serve(), temperature=0).options.temperature == 0
    assert asked(serve(), top_k=-1).options.top_k == 0
    assert asked(serve(), n=2, best_of=2).count == 2
    with pytest.raises(ApiError, match="best_of other than n"):
        asked(serve(), best_of=2)


def test_an_audit_is_the_requests_own_or_the_servers(serve):
    for settings, own, audit in ((None, None, None), (9, None, 9), (None, 4, 4), (9, 4, 4)):
        service = serve(audit=settings)
        body = {} if own is None else {"shortlist": {"audit": own}}
        assert asked(service, **body).options.audit == audit
    assert asked(serve(audit=9), shortlist={"head": "own"}).options.audit == 9


def test_the_dense_head_and_a_trace_are_for_those_who_ask(serve):
    for own, stream, dense, trace in (
        (None, True, False, False),
        ({"head": "own"}, True, False, False),
        ({"head": "dense"}, False, True, False),
        ({"trace": True}, True, False, True),
        ({"trace": True}, False, False, False),  # an answer that is sent whole has no place for it
        ({"trace": False}, True, False, False),
    ):
        options = asked(serve(), shortlist=own, stream=stream).options
        assert (options.dense_head, options.trace) == (dense, trace)


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [(None, [None] * 3), (0, [0, 1, 2]), (GREATEST_SEED - 2, [GREATEST_SEED - 2, GREATEST_SEED - 1, 0])],
)
def test_choices_of_a_seed_have_the_seeds_that_follow(serve, seed, seeds):
    texts = Texts.of(serve(), [[1, 2]], Wanted(GenerationOptions(seed=seed), 5, 3))
    assert [options.seed for _, options in texts.requests] == seeds


@pytest.mark.parametrize(
    ("most", "given"), [(None, 61), (5, 5), (61, 61), (62, 61), (0, 1)], ids=lambda each: str(each)
)
def test_answers_are_cut_to_the_room(serve, most, given):
    texts = Texts.of(serve(), [[1, 2, 3]], Wanted(GenerationOptions(), most, 1))
    assert [options.max_tokens for _, options in texts.requests] == [given]
    assert texts.written is (most != 0)


def test_only_an_answer_of_nothing_needs_no_room(serve):
    full = [1] * 64
    assert not Texts.of(serve(), [full], Wanted(GenerationOptions(), 0, 1)).written
    for most in (None, 1):
        with pytest.raises(ApiError, match="leaves no room"):
            Texts.of(serve(), [full], Wanted(GenerationOptions(), most, 1))


def test_more_texts_than_may_wait_are_refused_unless_nothing_is_written(serve):
    service = serve(queue=4)
    prompts = [[1], [2]]
    assert len(Texts.of(service, prompts, Wanted(GenerationOptions(), 1, 2)).requests) == 4
    with pytest.raises(ApiError, match="asks for 6 texts: ask for at most 4"):
        Texts.of(service, prompts, Wanted(GenerationOptions(), 1, 3))
    assert len(Texts.of(service, prompts, Wanted(GenerationOptions(), 0, 3)).requests) == 6


def test_tokens_of_prompts_are_counted_once_for_all_choices(serve):
    texts = Texts.of(serve(), [[1, 2, 3], [4]], Wanted(GenerationOptions(), 5, 2))
    assert [prompt for prompt, _ in texts.requests] == [[1, 2, 3], [1, 2, 3], [4], [4]]
    assert texts.prompt_tokens == 4
    reused = [SimpleNamespace(stats=SimpleNamespace(reused_tokens=count)) for count in (2, 1, 0, 1)]
    # Only what none of the choices had to compute.
    assert texts.cached_tokens([SimpleNamespace(generation=each) for each in reused]) == 1


# ---- limits ---------------------------------------------------------------------------------------------


def test_the_context_is_what_model_and_memory_hold(serve):
    assert (serve().context, serve().max_prompt) == (64, 64)
    assert (serve(kv_tokens=20).context, serve(kv_tokens=20).max_prompt) == (20, 20)
    assert (serve(max_prompt=10).context, serve(max_prompt=10).max_prompt) == (64, 10)
    assert serve(max_prompt=1000).max_prompt == 64


def test_a_prompt_of_the_most_tokens_passes(serve):
    service = serve(max_prompt=10)
    assert len(service.encode("x" * 9)) == 10  # and the begin token
    assert service.checked([1] * 10) == [1] * 10
    for prompt in ("x" * 10, [1] * 11):
        with pytest.raises(ApiError, match="However, the prompt has 11 tokens"):
            service.encode(prompt)
    most = 10 * CHARACTERS_PER_TOKEN
    with pytest.raises(ApiError, match=f"has {most} tokens"):
        service.encode_text("x" * most, add_special=False, parse_special=True)
    with pytest.raises(ApiError, match=f"has {most + 1} characters"):
        service.encode_text("x" * (most + 1), add_special=False, parse_special=True)


def test_what_is_told_of_the_model(serve):
    service = serve()
    assert service.fingerprint == "shortlist-0123456789ab"
    assert service.dense_bytes == 5000 + 2000  # the layers, and all rows of the head
    assert service.public("/models/fake.gguf: broken") == "tiny: broken"


def said(content):
    return [Message(role="user", content=content)]


def test_a_conversation_needs_a_template_by_some_name(serve):
    service = serve()
    tokenizer = service.model.tokenizer
    assert service.encode_chat(said("x")) == tokenizer.encode("<user>x\n<assistant>")
    tokenizer.chat_template, tokenizer.template_names = None, ("tool_use",)
    assert service.encode_chat(said("x"))
    tokenizer.template_names = ()
    with pytest.raises(ApiError) as raised:
        service.encode_chat(said("x"))
    assert (raised.value.status, raised.value.code) == (400, "no_chat_template")


def test_a_conversation_is_measured_before_it_is_rendered(serve):
    service = serve(max_prompt=30)
    service.model.tokenizer.encode_chat = lambda *arguments, **options: pytest.fail("it was rendered")
    long = "x" * 30 * CHARACTERS_PER_TOKEN
    with pytest.raises(ApiError, match="characters"):
        service.encode_chat(said(long))
    with pytest.raises(ApiError, match="characters"):
        service.encode_chat(said("x"), tools=[{"name": long}])


def test_a_template_that_refuses_is_the_requests_fault(serve):
    service = serve()

    def refuse(*arguments, **options):
        raise CheckpointError("/models/fake.gguf: its template is broken")

    service.model.tokenizer.encode_chat = refuse
    with pytest.raises(ApiError) as raised:
        service.encode_chat(said("x"))
    error = raised.value
    assert (error.status, error.param, error.code) == (400, "messages", "invalid_value")
    assert error.message == "tiny: its template is broken"


def test_a_service_that_is_closed_takes_nothing(serve):
    service = serve()
    service.close()
    assert service.closing
    with pytest.raises(UsageError, match="closed"):
        service.engine.submit([1], GenerationOptions(max_tokens=1), print)

    async def run():
        await service.on_tokenizer(lambda: 1)

    with pytest.raises(RuntimeError, match="shutdown"):
        asyncio.run(run())


def test_an_empty_prompt_is_refused_and_an_empty_text_is_not(serve):
    service = serve()
    with pytest.raises(UsageError, match="prompt is empty"):
        service.encode("")
    assert service.encode_text("", add_special=False, parse_special=True) == []


def test_one_text_at_a_time_is_cut_into_tokens(serve):
    service = serve()
    second_began = threading.Event()

    async def run():
        return await asyncio.gather(
            service.on_tokenizer(lambda: second_began.wait(0.05)),
            service.on_tokenizer(lambda: second_began.set() or threading.current_thread().name),
        )

    overlapped, name = asyncio.run(run())
    assert not overlapped
    assert name.startswith("shortlist-tokenize")


def test_room_for_an_answer(serve):
    service = serve()
    assert service.room([1] * 60, least=1) == 4
    assert service.room([1] * 63, least=1) == 1
    assert service.room([1] * 64, least=0) == 0
    with pytest.raises(ApiError, match="64 tokens, which leaves no room"):
        service.room([1] * 64, least=1)


def test_bodies_for_another_model_or_after_the_end_are_refused(serve):
    service = serve()
    service.check_body(CompletionBody(prompt="x"))
    service.check_body(CompletionBody(prompt="x", model="tiny"))
    with pytest.raises(ApiError) as raised:
        service.check_body(CompletionBody(prompt="x", model="other"))
    assert (raised.value.status, raised.value.code, raised.value.param) == (404, "model_not_found", "model")
    service.closing = True
    with pytest.raises(ApiError) as raised:
        service.check_body(CompletionBody(prompt="x", model="tiny"))
    assert (raised.value.status, raised.value.code) == (503, "shutting_down")


# ---- answers --------------------------------------------------------------------------------------------


async def read(answer):
    return [event async for event in answer]


def test_answers_are_cancelled_with_their_block_and_forgotten(serve):
    service = serve(seconds=0.005, context_length=1024)

    async def run():
        requests = [([1, 2], GenerationOptions(max_tokens=50)), ([1, 3], GenerationOptions(max_tokens=2))]
        async with service.answers(requests) as answers:
            assert service._answers == set(answers)
            assert len(await read(answers[1])) == 2
            assert not any(answer.sequence.cancelled for answer in answers)
        assert all(answer.sequence.cancelled for answer in answers)
        assert not service._answers
        with pytest.raises(ApiError, match="shutting down"):  # what a cancelled answer means to a reader
            await read(answers[0])

    asyncio.run(run())


def test_what_was_submitted_before_one_that_is_refused_is_cancelled(serve):
    service = serve(seconds=0.01, context_length=1024)
    jobs = []
    submit = service.engine.submit

    def noting(*arguments, **options):
        jobs.append(submit(*arguments, **options))
        return jobs[-1]

    service.engine.submit = noting

    async def run():
        requests = [([1], GenerationOptions(max_tokens=500)), ([999], GenerationOptions(logit_bias={999: 1}))]
        with pytest.raises((UsageError, IndexError)):
            async with service.answers(requests):
                pytest.fail("it was submitted")

    asyncio.run(run())
    assert [job.cancelled for job in jobs] == [True]
    assert not service._answers


def test_all_answers_end_where_the_service_is_cancelled(serve):
    service = serve(seconds=0.005, context_length=1024)

    async def run():
        async with service.answers([([1], GenerationOptions(max_tokens=500))]) as (answer,):
            service.cancel()
            with pytest.raises(ApiError, match="shutting down"):
                await read(answer)

    asyncio.run(run())


def test_progress_is_told_only_to_those_who_ask(serve):
    service = serve(context_length=1024)

    async def run(**progress):
        prompt = [1 + len(progress)] * 700
        async with service.answers([(prompt, GenerationOptions(max_tokens=1))], **progress) as (answer,):
            return [type(event) for event in await read(answer)]

    assert asyncio.run(run(progress=True)) == [PromptEvent, PromptEvent, TokenEvent]
    assert asyncio.run(run()) == [TokenEvent]


def test_an_empty_answer_has_ended(serve):
    service = serve()

    async def run():
        answer = service.empty_answer([1, 2, 3])
        assert answer.ended >= answer.submitted > 0
        assert await read(answer) == []
        return answer

    answer = asyncio.run(run())
    assert (answer.generation.text, answer.generation.finish_reason) == ("", "length")
    assert (answer.generation.stats.prompt_tokens, answer.generation.stats.draws) == (3, 0)
    assert answer.timings.total == 0


def test_the_first_token_is_timed_from_the_submission_and_others_from_the_one_before(monkeypatch):
    told = []
    metrics = SimpleNamespace(
        observe_token=lambda seconds, first, agrees: told.append((seconds, first, agrees))
    )
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def token(agrees):
        return TokenEvent(SimpleNamespace(agrees=agrees), "", 0.0, 0)

    async def run():
        answer = Answer(metrics)
        answer.submitted = 1.0
        for now[0], event in (
            (2.0, PromptEvent(1, 2)),
            (4.0, token(None)),
            (9.0, token(True)),
            (10.0, DoneEvent(None, None)),
        ):
            assert answer.ended == 0.0
            answer.receive(event)
        return answer

    assert asyncio.run(run()).ended == 10.0
    assert told == [(3.0, True, None), (5.0, False, True)]


# ---- work in pieces -------------------------------------------------------------------------------------


def test_a_walk_gives_its_pieces_in_order(serve):
    service = serve()
    threads = []

    def pieces():
        for piece in range(3):
            threads.append(threading.current_thread().name)
            yield piece

    async def run():
        return [piece async for piece in service.walk(pieces())]

    assert asyncio.run(run()) == [0, 1, 2]
    assert set(threads) == {"shortlist-batch"}


def test_walks_are_one_at_a_time_and_as_many_wait_as_may(serve):
    service = serve(queue=2)
    events = []

    def pieces(name):
        events.append(f"{name} begins")
        yield 1
        yield 2
        events.append(f"{name} ends")

    async def go(name):
        return [piece async for piece in service.walk(pieces(name))]

    async def run():
        found = await asyncio.gather(go("a"), go("b"), go("c"), return_exceptions=True)
        again = await go("d")  # those that ended made room
        return found, again

    (*walked, refused), again = asyncio.run(run())
    assert walked == [[1, 2], [1, 2]]
    assert isinstance(refused, QueueFull)
    assert again == [1, 2]
    assert events == ["a begins", "a ends", "b begins", "b ends", "d begins", "d ends"]
