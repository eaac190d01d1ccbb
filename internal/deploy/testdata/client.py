"""Talks to the endpoint with OpenAI's own client; every difference from its types is an error."""
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="test", max_retries=2)
name = "agent/desk@prod"
user = [{"role": "user", "content": "hello"}]

assert [m.id for m in client.models.list()] == [name]
assert client.models.retrieve(name).id == name

r = client.chat.completions.create(model=name, messages=user, user="s1")
assert r.choices[0].message.content == "First. hello", r
assert r.choices[0].finish_reason == "stop" and r.usage.total_tokens == 47, r
assert r.id.startswith("chatcmpl-run_"), r

raw = client.chat.completions.with_raw_response.create(model=name, messages=user, extra_headers={"X-Flywheel-Session": "s2"})
assert raw.headers["x-flywheel-session"] == "s2" and raw.headers["x-flywheel-run"].startswith("run_")
assert raw.parse().choices[0].message.role == "assistant"

text, usage, reason = "", None, None
for chunk in client.chat.completions.create(model=name, messages=user, stream=True, stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    usage = chunk.usage or usage
assert (text, reason, usage.total_tokens) == ("First. hello", "stop", 47), (text, reason, usage)

with client.chat.completions.stream(model=name, messages=user) as stream:
    final = stream.get_final_completion()
assert final.choices[0].message.content == "First. hello", final

for bad, error in (({"model": "gpt-4o"}, openai.NotFoundError), ({"n": 2}, openai.BadRequestError)):
    try:
        client.chat.completions.create(**{"model": name, "messages": user, **bad})
    except error as e:
        assert e.body["type"] == "invalid_request_error", e.body
    else:
        raise SystemExit(f"{bad} was accepted")

print("all is well")
