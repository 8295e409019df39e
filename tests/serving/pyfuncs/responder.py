"""An agent in the words of OpenAI's Responses: says what it was told, a word at a time."""

import mlflow
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent


class Responder(ResponsesAgent):
    def predict(self, request):
        item = self.create_text_output_item(text=request.input[-1].content, id="m1")
        return ResponsesAgentResponse(output=[item])

    def predict_stream(self, request):
        text = request.input[-1].content
        for word in text.split():
            yield ResponsesAgentStreamEvent(**self.create_text_delta(delta=word, item_id="m1"))
        item = self.create_text_output_item(text=text, id="m1")
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)


mlflow.models.set_model(Responder())
