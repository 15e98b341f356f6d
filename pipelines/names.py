"""The names of flow runs: by what they do, except where a user has typed one.

Prefect gives each run two random words, and its form fills in two others, before anybody types. It does not say which
names were typed, so its words are known here; a test compares them with the installed form's.
"""

import re
from collections.abc import Callable

from coolname.data import config as coolname_words
from prefect.runtime import flow_run

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
    """Whether a flow run's name is a user's, and not one of Prefect's random ones."""
    first, _, second = name.partition("-")
    is_of_the_form = first in ADJECTIVES_OF_THE_FORM.split() and second in ANIMALS_OF_THE_FORM.split()
    return bool(name) and not (is_of_the_form or WORDS_OF_THE_SERVER.issuperset({first, second}))


def by_parameters(flow: str, *names: str) -> Callable[[], str]:
    """Gives what Prefect calls for the name of a run: `FLOW-VALUE-VALUE`, or what the user has typed.

    Args:
        flow: its name.
        names: parameters; those that are empty are left out, and a commit is shortened.
    """

    def name_run() -> str:
        values = (str(flow_run.parameters.get(name) or "") for name in names)
        wanted = "-".join([flow, *(COMMIT.sub(r"\1", value) for value in values if value)])
        return str(flow_run.name) if is_typed(str(flow_run.name or "")) else wanted

    return name_run
