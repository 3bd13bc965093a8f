from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from unirex_ray.study.markup import as_html, escaped
from unirex_ray.study.sheet import Page, Passage


class Shown(HTMLParser):
    """What a browser shows, and what of it is marked."""

    def __init__(self, html):
        super().__init__()
        self.text, self.marked, self.tags, self.open = "", "", set(), []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "br":
            self.handle_data("\n")
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "mark" in self.open:
            self.marked += data


def page(*passages, predicted=None):
    return Page(item="i", passages=passages, options=("no", "yes"), predicted=predicted)


PAIR = (
    Passage(choice="", runs=(("a <b>dull</b> & ", False), ("long", True), (" plot", False))),
    Passage(choice="", runs=(("nobody came", False),)),
)


def test_what_a_browser_shows():
    shown = Shown(as_html(page(*PAIR, predicted="very <good>")))
    assert shown.text == "Predicted label: very <good>a <b>dull</b> & long plotnobody came"
    assert shown.marked == "long"
    assert shown.tags == {"div", "p", "strong", "mark"}


def test_highlights_do_not_rest_on_colour_alone():
    html = as_html(page(*PAIR))
    style = html.split('<mark style="')[1].split('"')[0]
    assert "font-weight:bold" in style
    assert "text-decoration:underline" in style


def test_choices_stand_above_their_texts():
    html = as_html(
        page(Passage(choice="a cat", runs=(("meows", True),)), Passage(choice="a dog", runs=(("barks", False),)))
    )
    assert Shown(html).text == "a cat\nmeowsa dog\nbarks"


def test_where_nothing_is_highlighted_it_is_said():
    assert "Nothing is highlighted" in as_html(page(PAIR[1]))
    assert "Nothing is highlighted" not in as_html(page(*PAIR))


def test_escaped_by_hand():
    assert escaped('a*b <i>\n"$x$"') == "a&#42;b &#60;i&#62;<br>&#34;&#36;x&#36;&#34;"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\v\f\x85\u2028\u2029\0")))
def test_any_text_is_shown_as_it_is_and_is_one_line(text):
    html = as_html(page(Passage(choice="", runs=((text, True),))))
    assert Shown(html).marked == text
    assert "\n" not in html
    assert not {*"*_`$[]\\~^|"} & {*escaped(text)}
