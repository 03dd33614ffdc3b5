"""What a model reads and what its output rests on, as a page that needs nothing else.

`explain` (explanation) is the way in; `subject` says which output of a model is explained, `attributions` shares it out
among the tokens, `attention` collects who reads whom, `page` writes HTML with `page.html` and the `words` of two
languages. Uses inference and model.
"""

from lmcommons.explaining.explanation import Explanation, explain
from lmcommons.explaining.page import write_page

__all__ = ["Explanation", "explain", "write_page"]
