"""Programs that people point at such servers: the official `openai` client and lm-eval-harness."""

import json

import openai
import pytest


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


MESSAGES = [{"role": "user", "content": "Hello"}]


def test_openai_chat(client, alone):
    expected = alone.generate(alone.tokenizer.encode_chat(MESSAGES), max_tokens=8).text
    options = {"model": "tiny", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    answer = client.chat.completions.create(**options, logprobs=True, top_logprobs=2)
    assert answer.choices[0].message.content == expected
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2
    assert answer.usage.model_extra["shortlist"]["rows_read"] > 0

    chunks = list(
        client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected
    assert chunks[-1].usage.completion_tokens == 8


def test_openai_completions_embeddings_and_models(client, alone):
    answer = client.completions.create(
        model="tiny", prompt="The cat", max_tokens=4, temperature=0, echo=True, logprobs=1
    )
    assert answer.choices[0].text == "The cat" + alone.generate("The cat", max_tokens=4).text
    assert answer.choices[0].logprobs.token_logprobs[0] is None
    vectors = client.embeddings.create(model="tiny", input=["a", "b"])  # the client asks for base64
    assert [len(each.embedding) for each in vectors.data] == [alone.config.width] * 2
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_openai_errors_are_its_own_classes(client):
    with pytest.raises(openai.NotFoundError, match="does not exist") as missing:
        client.completions.create(model="other", prompt="x")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="prompt is empty"):
        client.completions.create(model="tiny", prompt="")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.completions.create(model="tiny", prompt="x", temperature="hot")
    assert wrong.value.param == "temperature"


def test_openai_json_schema(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {**schema, "additionalProperties": False}},
    }
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, response_format=wanted, max_tokens=60, temperature=0
    )
    assert json.loads(answer.choices[0].message.content)["n"] <= 99


TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["n"],
        },
    },
}


def test_openai_tools(client):
    options = {
        "model": "tiny",
        "messages": MESSAGES,
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    answer = client.chat.completions.create(**options)
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "add"
    assert json.loads(call.function.arguments)["n"] in range(10)
    assert "does not show tools" in answer.model_extra["warnings"][0]

    with client.chat.completions.stream(**options) as stream:
        whole = stream.get_final_completion()
    assert whole.choices[0].message.tool_calls[0].function.arguments == call.function.arguments

    told = {"role": "tool", "tool_call_id": call.id, "content": "7"}
    again = [*MESSAGES, answer.choices[0].message, told]
    options |= {"messages": again, "tool_choice": "none", "max_tokens": 4}
    assert client.chat.completions.create(**options).choices[0].message.content is not None


def test_openai_says_what_is_refused(client):
    for options, name in (
        ({"web_search_options": {}}, "web_search_options"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"extra_body": {"guided_grammar": "x"}}, "guided_grammar"),
    ):
        with pytest.raises(openai.BadRequestError, match=name) as refused:
            client.chat.completions.create(model="tiny", messages=MESSAGES, **options)
        assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="maximum context length") as long:
        client.completions.create(model="tiny", prompt="x " * 5000)
    assert long.value.code == "context_length_exceeded"


QUESTIONS = [
    {"question": "The cat sat on the", "choices": [" mat", " dog", " moon and the sun"], "answer": 0},
    {"question": "Water is", "choices": [" wet", " a colour"], "answer": 0},
    {"question": "Grüße aus", "choices": [" Köln", " dem Süden", " 🙂"], "answer": 2},
]


@pytest.mark.slow
def test_lm_eval_scores_are_those_of_the_python_api(url, alone, tiny_folder, tmp_path, monkeypatch):
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lm_eval import simple_evaluate
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in QUESTIONS))
    task = {
        "task": "local_questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    served = LocalCompletionsAPI(
        base_url=f"{url}/v1/completions",
        model="tiny",
        tokenizer=str(tiny_folder),
        tokenizer_backend="huggingface",
        num_concurrent=1,
        max_retries=1,
        batch_size=2,
    )
    result = simple_evaluate(
        model=served, tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0
    )
    assert result is not None
    samples = sorted(result["samples"]["local_questions"], key=lambda sample: sample["doc_id"])
    assert len(samples) == len(QUESTIONS)
    for sample, question in zip(samples, QUESTIONS, strict=True):
        for (loglikelihood, is_greedy), choice in zip(
            sample["filtered_resps"], question["choices"], strict=True
        ):
            tokens = alone.tokenizer.encode(question["question"] + choice, add_special=False)
            start = len(alone.tokenizer.encode(question["question"], add_special=False))
            scored = alone.score(tokens, logprobs=1)[start:]
            assert float(loglikelihood) == sum(entry.chosen.logprob for entry in scored)
            assert is_greedy == all(entry.chosen.token == entry.top[0].token for entry in scored)
