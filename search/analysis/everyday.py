"""Everyday words: what pictures show most, for a collection without captions or labels."""

from __future__ import annotations

#: Words for things, people, animals, places and scenes, separated by commas.
_WORDS = """
dog, cat, bird, horse, cow, sheep, pig, goat, chicken, duck, rabbit, mouse, squirrel, deer, fox,
bear, lion, tiger, elephant, giraffe, zebra, monkey, panda, kangaroo, penguin, owl, eagle, parrot,
swan, fish, shark, dolphin, whale, turtle, frog, snake, lizard, crab, butterfly, bee, spider,
insect, hedgehog,
man, woman, child, baby, boy, girl, couple, family, group of people, crowd, portrait, selfie,
wedding, birthday party, concert, musician, singer, dancer, soldier, police officer, doctor, chef,
farmer, worker, athlete, runner, swimmer, skier, surfer, cyclist, climber, football player,
basketball player, tennis player, astronaut, statue, painting, drawing, cartoon,
beach, sea, wave, island, coast, cliff, lake, river, waterfall, mountain, hill, valley, canyon,
desert, forest, tree, leaf, grass, meadow, field, garden, park, flower, rose, sunflower, mushroom,
rock, cave, volcano, glacier, snow, ice, sky, cloud, rainbow, sunset, sunrise, night sky, moon,
star, planet, storm, fog, rain, fire, fireworks, smoke,
city, skyline, skyscraper, street, road, motorway, alley, bridge, tunnel, square, market, shop,
restaurant, cafe, bar, hotel, house, cottage, castle, palace, church, mosque, temple, tower,
lighthouse, windmill, barn, farm, factory, power station, office, school, library, hospital,
museum, stadium, theatre, station, airport, harbour, ruin, pyramid, fountain, cemetery, playground,
swimming pool,
living room, bedroom, kitchen, bathroom, staircase, window, door, wall, roof, balcony,
car, van, lorry, bus, tram, train, bicycle, motorcycle, tractor, ambulance, fire engine, aeroplane,
helicopter, hot-air balloon, rocket, boat, sailing boat, ship, canoe, skateboard, surfboard,
table, chair, sofa, bed, lamp, clock, mirror, bookshelf, book, newspaper, map, sign, poster, flag,
letter, handwriting, receipt, chart, screenshot, website, computer, laptop, keyboard, phone,
camera, television, loudspeaker, headphones, guitar, piano, violin, drum, microphone,
bag, suitcase, umbrella, hat, shoe, dress, suit, shirt, glasses, watch, ring, jewellery, mask, toy,
doll, balloon, ball, kite, tent, candle, vase, bottle, glass, cup, plate, bowl, knife, scissors,
tool, pen, key, coin, money, box,
meal, breakfast, bread, sandwich, pizza, burger, pasta, rice, soup, salad, meat, sausage, cheese,
egg, cake, biscuit, chocolate, ice cream, fruit, apple, banana, orange, grapes, strawberry, fig,
vegetable, tomato, potato, carrot, pumpkin, coffee, tea, beer, wine, cocktail
"""
WORDS: tuple[str, ...] = tuple(dict.fromkeys(" ".join(_WORDS.split()).split(", ")))
