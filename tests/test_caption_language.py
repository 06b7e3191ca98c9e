# SPDX-License-Identifier: Apache-2.0
"""Is a text English? Sentences as captions have them, in nine languages."""

import pytest

from captioning.language import is_english

ENGLISH = (
    "A motorcycle rides along a country road in bright sun while the camera follows it from behind at a steady pace.",
    "Two people stand in front of a wooden house; one of them lifts a box and hands it to the other, who smiles.",
    "The light comes from a window on the left, soft and cool, and leaves most of the room in shadow.",
    "Close-up, eye level, slight handheld shake; warm palette, shallow focus, film grain in the dark areas.",
    "Café signs in Chinese (咖啡) and Arabic hang over the street as cars pass from left to right.",
)
OTHER = (
    "Ein Motorrad fährt bei hellem Sonnenschein über eine Landstraße, während die Kamera ihm in ruhigem Tempo folgt.",
    "Une moto roule sur une route de campagne en plein soleil tandis que la caméra la suit à une allure régulière.",
    "Una motocicleta recorre una carretera rural a pleno sol mientras la cámara la sigue desde atrás a paso igual.",
    "Una moto percorre una strada di campagna in pieno sole mentre la telecamera la segue da dietro a passo costante.",
    "Een motor rijdt in de felle zon over een landweg terwijl de camera hem van achteren in een rustig tempo volgt.",
    "Uma moto percorre uma estrada rural sob sol forte enquanto a câmera a segue por trás em ritmo constante e calmo.",
    "一辆摩托车在明亮的阳光下沿着乡间小路行驶镜头以平稳的速度从后面跟随。",
    "Мотоцикл едет по просёлочной дороге под ярким солнцем, камера следует за ним сзади ровно.",
)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_is_taken(text: str) -> None:
    assert is_english(text)


@pytest.mark.parametrize("text", OTHER)
def test_other_languages_are_refused(text: str) -> None:
    assert not is_english(text)


def test_short_texts_are_judged_by_their_letters_only() -> None:
    assert is_english("Eye level, medium shot.")
    assert is_english("16:9, 3840 x 2160")
    assert not is_english("中景平视")
