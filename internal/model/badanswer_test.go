package model_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"flywheel/internal/model"
	"flywheel/internal/model/modeltest"
	"flywheel/internal/platform/fault"
)

func TestAnswersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		form   model.Form
		answer modeltest.Answer
		output string
		code   string
	}{
		"native: malformed arguments":      {model.FormNative, modeltest.Answer{Calls: []modeltest.Call{{Name: "cards_freeze", Args: `{"card_id":`}}}, "", model.CodeMalformed},
		"native: arguments are no object":  {model.FormNative, modeltest.Answer{Calls: []modeltest.Call{{Name: "cards_freeze", Args: `["4711"]`}}}, "", model.CodeMalformed},
		"native: unknown tool":             {model.FormNative, modeltest.Answer{Calls: []modeltest.Call{{Name: "cards_frees", Args: `{}`}}}, "", model.CodeUnknownTool},
		"native: output is no JSON":        {model.FormNative, modeltest.Answer{Text: "Sure!"}, `{"type":"object"}`, model.CodeMalformed},
		"native: output of another shape":  {model.FormNative, modeltest.Answer{Text: `{"a":"x"}`}, `{"type":"object","properties":{"a":{"type":"integer"}}}`, model.CodeMalformed},
		"native: output is cut off":        {model.FormNative, modeltest.Answer{Text: `{"a":`, Finish: "length"}, `{"type":"object"}`, model.CodeMalformed},
		"action: prose":                    {model.FormAction, modeltest.Answer{Text: "I would freeze the card."}, "", model.CodeMalformed},
		"action: half an object":           {model.FormAction, modeltest.Answer{Text: `{"action":"cards_fr`}, "", model.CodeMalformed},
		"action: cut off":                  {model.FormAction, modeltest.Answer{Text: `{"action":"cards_freeze","card_id":"47`, Finish: "length"}, "", model.CodeMalformed},
		"action: two objects":              {model.FormAction, modeltest.Answer{Text: `{"action":"cards_list"}{"action":"cards_list"}`}, "", model.CodeMalformed},
		"action: none":                     {model.FormAction, modeltest.Answer{Text: `{"card_id":"4711"}`}, "", model.CodeMalformed},
		"action: a number":                 {model.FormAction, modeltest.Answer{Text: `{"action":4}`}, "", model.CodeMalformed},
		"action: unknown tool":             {model.FormAction, modeltest.Answer{Text: `{"action":"cards_destroy"}`}, "", model.CodeUnknownTool},
		"action: reply without text":       {model.FormAction, modeltest.Answer{Text: `{"action":"reply"}`}, "", model.CodeMalformed},
		"action: reply is a number":        {model.FormAction, modeltest.Answer{Text: `{"action":"reply","text":4}`}, "", model.CodeMalformed},
		"action: data of another shape":    {model.FormAction, modeltest.Answer{Text: `{"action":"reply","data":{"a":"x"}}`}, `{"type":"object","properties":{"a":{"type":"integer"}}}`, model.CodeMalformed},
		"the server dies in mid-stream":    {model.FormNative, modeltest.Answer{Text: "I am", Die: true}, "", model.CodeInterrupted},
		"the server sends something else":  {model.FormNative, modeltest.Answer{Raw: "data: ???\n\n"}, "", model.CodeMalformed},
		"the server refuses":               {model.FormNative, modeltest.Answer{Status: http.StatusBadRequest, Error: "no"}, "", model.CodeRefused},
		"a schema that cannot be resolved": {model.FormNative, modeltest.Answer{Text: "{}"}, `{"$ref":"#/nowhere"}`, "model.bad_schema"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := service(t, modeltest.New(t, tt.answer), tt.form)
			req := request(user("x"))
			if tt.output != "" {
				req.Output = json.RawMessage(tt.output)
			}
			r, _, err := chat(t, m, req)
			if !fault.HasCode(err, tt.code) {
				t.Fatalf("got %+v, %v", r, err)
			}
			if tt.answer.Raw == "" && tt.answer.Status == 0 && !tt.answer.Die && r.Usage.In == 0 {
				t.Error("what the unusable answer cost is lost")
			}
		})
	}
}

func TestCutOffReplyIsStillAnAnswer(t *testing.T) {
	t.Parallel()
	m := service(t, modeltest.New(t, modeltest.Answer{Text: `{"action":"reply","text":"Your card is fro`, Finish: "length"}), model.FormAction)
	r, _, err := chat(t, m, request(user("x")))
	if err != nil || r.Message.Content != "Your card is fro" || r.Finish != model.FinishLength {
		t.Errorf("%+v %v", r, err)
	}
}

func TestModelThatRefusesATemperature(t *testing.T) {
	t.Parallel()
	s := modeltest.New(t)
	s.Func(func(r modeltest.Request) modeltest.Answer {
		if r.Body["temperature"] != nil {
			return modeltest.Answer{Status: http.StatusBadRequest, Error: "`temperature` is not supported with this model"}
		}
		return modeltest.Answer{Text: "fine"}
	})
	m := service(t, s, model.FormNative)
	for range 2 {
		if r, _, err := chat(t, m, request(user("x"))); err != nil || r.Message.Content != "fine" {
			t.Fatalf("%+v %v", r, err)
		}
	}
	if n := len(s.Requests()); n != 3 { // asked once with it, then never again
		t.Errorf("%d requests", n)
	}
}
