"""Names for what was given none, easy to say and to tell apart: ``brave-otter-412``."""

_MOOD_WORDS = (
    "able agile amber ample brave brisk calm candid clever crisp dapper deft eager early fleet fond frank gentle "
    "glad grand hardy honest humble jolly keen kind lively loyal lucid mellow merry modest neat nimble noble patient "
    "placid plucky polite proud quick quiet rapid rustic sage sly sober spry steady stoic subtle sunny swift tidy "
    "tranquil upbeat valiant vivid warm wise witty zesty"
)
_ANIMAL_WORDS = (
    "badger bear beaver bison bittern carp crane crow deer dove eagle eel egret elk falcon ferret finch fox frog gecko "
    "goose grouse gull hare hawk heron ibex jackal jay kestrel kite lark lemur linnet lynx magpie marten mink mole "
    "moose moth newt otter owl perch pike plover quail raven robin rook seal shrew skylark snipe sparrow stoat stork "
    "swallow swan tern thrush toad trout viper vole walrus weasel wren"
)
_MOODS, _ANIMALS = _MOOD_WORDS.split(), _ANIMAL_WORDS.split()


def friendly_name(identity: str) -> str:
    """A name made from *identity*, a text that ends in 32 hexadecimal digits: the same one for the same identity."""
    number = int(identity[-32:], 16)
    number, suffix = divmod(number, 1000)
    number, animal = divmod(number, len(_ANIMALS))
    return f"{_MOODS[number % len(_MOODS)]}-{_ANIMALS[animal]}-{suffix}"
