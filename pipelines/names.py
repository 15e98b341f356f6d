"""Names flow runs by their parameters, except where a user has typed a name.

Prefect gives each run a name of two random words, and its form suggests two others. It does not say which names were
typed, so its words are listed here; a test compares the list with the installed form.
"""

import re
from collections.abc import Callable

from coolname.data import config as coolname_words
from prefect.runtime import flow_run

from pipelines.workspace import Revision
from segpipe.project import SHORT_SHA

ADJECTIVES_OF_THE_FORM = """
Awesome Rustic Small Gorgeous Fantastic Sleek Intelligent Unbranded Refined Licensed Generic Practical Ergonomic
Handcrafted Tasty Handmade Incredible
"""
# Those with at most six letters.
ANIMALS_OF_THE_FORM = """
Addax Aidi Ainu Akbash Akita Alabai Alpaca Alusky Ant Ape Asp Avocet Baboon Badger Baiji Barb Barbet Bass Bat
Baya Beagle Beago Bear Beaski Beaver Bee Beetle Bichir Bilby Bird Birman Bison Boas Bobcat Boggle Boiga Bombay
Bongo Bonobo Booby Borkie Bowfin Boxsky Briard Brug Caiman Camel Cantil Carp Cat Chipit Chipoo Chiton Chusky
Cicada Coati Cobras Cockle Collie Conure Coral Corkie Cougar Cow Coyote Crab Crane Crow Cuckoo Cuscus Daniff
Danios Daug Deer Dhole Dingo Discus Dodo Dog Donkey Dorgi Dorkie Douc Doxle Drever Duck Dugong Dunker Eagle
Earwig Eel Egret Eider Eland Elk Emu Ermine Eryops Falcon Feist Ferret Fish Flea Fly Fossa Fox Frog Frug Gar
Gecko Genet Gerbil Gibbon Gnat Goat Gollie Goose Gopher Grebe Grouse Guppy Hare Hawk Heron Hoopoe Horgi Hornet
Horse Human Husky Hyena Ibex Ibis Iguana Impala Indri Insect Jabiru Jacana Jackal Jaguar Jerboa Kagu Kakapo Kea
Keagle Kishu Kiwi Koala Kodkod Koolie Kowari Krait Krill Kudu Kuvasz Leech Lemur Liger Limpet Linnet Lion Lizard
Llama Loach Locust Loris Lynx Macaw Maggot Magpie Malchi Mamba Marmot Mauzer Mayfly Meagle Miki Mink Mole Molly
Monkey Moose Morkie Moth Mouse Mudi Mule Muskox Newt Nilgai Numbat Nutria Nyala Ocelot Okapi Olingo Olm Onager
Opah Oribi Osprey Otter Owl Ox Oyster Parrot Peagle Pig Pigeon Pika Pitsky Pomchi Pomsky Poodle Poogle Possum
Potoo Prawn Puffin Pug Puggle Puli Puma Pumi Python Quagga Quail Quokka Quoll Rabbit Raggle Rat Rhea Robin Sable
Saiga Salmon Saluki Sambar Saola Seal Serval Shark Sheep Shichi Shrew Shrimp Skua Skunk Sloth Slug Snail Snake
Somali Sphynx Spider Sponge Squid Stoat Stork Swan Taipan Takin Tang Tapir Tarpon Tetra Thrush Tick Tiger Torkie
Tosa Toucan Towhee Trout Tuna Turaco Turkey Uakari Uguisu Unau Urial Vicuña Viper Vizsla Vole Walrus Wasp Weasel
Wolf Wombat Worm Wrasse Xeme Xerus Yak Yarara Zebra Zebu Zokor Zonkey Zorse Zuchon
"""
COMMIT = re.compile(r"^([0-9a-f]{12})[0-9a-f]{28}$")
WORDS_OF_THE_SERVER = frozenset(
    word
    for entry in coolname_words.values()
    if isinstance(entry, dict)
    for words in entry.get("words", [])
    for word in ([words] if isinstance(words, str) else words)
)


def is_typed(name: str) -> bool:
    """Whether a user typed a flow run's name: it is none of Prefect's random names."""
    first, _, second = name.partition("-")
    is_of_the_form = first in ADJECTIVES_OF_THE_FORM.split() and second in ANIMALS_OF_THE_FORM.split()
    return bool(name) and not (is_of_the_form or WORDS_OF_THE_SERVER.issuperset({first, second}))


def by_parameters(flow: str, *names: str) -> Callable[[], str]:
    """Gives a function that names a run for Prefect: `FLOW-VALUE-VALUE`, or the name that the user has typed.

    Args:
        flow: its name.
        *names: of parameters; empty values are left out, and a commit is shortened.
    """

    def name_run() -> str:
        values = (str(flow_run.parameters.get(name) or "") for name in names)
        wanted = "-".join([flow, *(COMMIT.sub(r"\1", value) for value in values if value)])
        return str(flow_run.name) if is_typed(str(flow_run.name or "")) else wanted

    return name_run


def with_commit(flow: str, revision: Revision) -> str | None:
    """Gives this run's name with the commit, once that is known: `FLOW-REVISION-RECIPE-COMMIT`.

    Args:
        flow: its name.
        revision: that was found for the run's parameters.

    Returns:
        None where the name must stay: a user has typed it, or it has the commit already.
    """
    parts = [flow, COMMIT.sub(r"\1", revision.name), *filter(None, [revision.recipe])]
    is_ours = flow_run.name == "-".join(parts)
    return None if not is_ours or COMMIT.match(revision.name) else "-".join([*parts, revision.sha[:SHORT_SHA]])
