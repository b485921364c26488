"""Sentences long enough to be compared: two for proposals, and one that no proposal has."""

SKY = "The sky is blue because air scatters short waves far more than long ones."
SUNSET = "Sunsets are red because evening light crosses forty times as much air."
MILK = "Try it with a drop of milk in a glass of water beside any lamp."
