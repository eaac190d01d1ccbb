package model_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"flywheel/internal/model"
	"flywheel/internal/model/modeltest"
)

func TestModelsForTheTerminal(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t, modeltest.Answer{Text: "x"})
	s.JSON("/v1/models", `{"data":[{"id":"gpt-5-mini"}]}`)
	m := model.New(model.Deps{CacheDir: t.TempDir(), Getenv: func(k string) string {
		return map[string]string{"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": s.URL + "/v1", "OLLAMA_HOST": "127.0.0.1:1"}[k]
	}})
	script, err := model.Scripted([]byte("default: {reply: hi}"))
	if err != nil {
		t.Fatal(err)
	}
	m.Register("scripted/desk", script)
	result, err := json.Marshal(model.ListOut{Providers: m.Doctor(t.Context())})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if ok, err := m.Ops()[0].RenderResult(&out, result); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, want := range []string{
		"openai/gpt-5-mini  native    $0.25 in, $2.00 out per million tokens", "scripted/desk      scripted",
		"ok  openai     1 models; key from OPENAI_API_KEY", "no  anthropic  no key; set ANTHROPIC_API_KEY",
		"no  local      not installed; make local-model", "start it with ollama serve",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(string(result), "very-secret") {
		t.Error("the report holds a key")
	}
}
