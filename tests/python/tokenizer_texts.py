"""Texts to tokenize: a few sentences in each of the 23 languages of Phi-3.5, and generated strings.

``generate(random)`` writes strings of every script, of emoji, combining marks, control characters,
white space of every kind, bytes read as text, and added tokens in all company.
"""

import random as random_module

LANGUAGES = {
    "Arabic": "مرحبا بكم في المكتبة. لدينا ١٢٣ كتابًا جديدًا، هل تريد قراءةَ أحدها؟ الجَوُّ جميل اليوم!",
    "Chinese": (
        "今天天气很好，我们去公园散步吧。这家餐厅的菜又便宜又好吃（人均50元）！「你好」——他说。"
    ),
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy. Dnes večer půjdeme do kina; přijdeš taky?",
    "Danish": "På øen bor der både ænder og gæs. Jeg vil gerne have en kop kaffe med mælk, tak!",
    "Dutch": (
        "Het is vandaag prachtig weer, dus we gaan naar zee. Zo'n 's-ochtends ijsje kost €2,50."
    ),
    "English": (
        "I'd say they're right: we've tried it, haven't we? It'll cost $1,234.56 (or so) -- O.K.!"
    ),
    "Finnish": (
        "Hyvää päivää! Äiti leipoi pöydälle yötä myöten kahvileipää. Missä lähin pysäkki on?"
    ),
    "French": (
        "L'été dernier, j'ai mangé une crème brûlée à Sète "
        ": « délicieuse » ! Où est-ce que tu vas ?"
    ),
    "German": (
        "Die Straße führt über die Brücke nach Köln. Äpfel, "
        "Öl und Übermut: „Was kostet das?“ fragte er."
    ),
    "Hebrew": "שלום עולם! הספרייה פתוחה מ־9 עד 17. אֵיפֹה הַכֶּלֶב? הוא ישן בגינה.",
    "Hungarian": (
        "Árvíztűrő tükörfúrógép. Holnap reggel találkozunk a pályaudvaron, ugye? Köszönöm szépen!"
    ),
    "Italian": (
        "Perché no? L'università è là, vicino al caffè; c'è "
        "un'altra città più in giù, però è lontana."
    ),
    "Japanese": (
        "吾輩は猫である。名前はまだ無い。カタカナとひらがな、"
        "ﾊﾝｶｸ文字も混ぜてみました。３時に会いましょう！"
    ),
    "Korean": (
        "안녕하세요? 오늘은 날씨가 참 좋네요. 점심으로 김치찌개 두 그릇을 먹었습니다. ㅋㅋㅋ"
    ),
    "Norwegian": (
        "Været er fint på fjellet i dag. Vi tar båten over fjorden klokka åtte, og så går vi hjem."
    ),
    "Polish": (
        "Zażółć gęślą jaźń. W Szczebrzeszynie chrząszcz brzmi w trzcinie – naprawdę? Dziękuję!"
    ),
    "Portuguese": (
        "Não há pão nem maçãs; amanhã irei à feira. A avó "
        "contou-lhe três histórias. Você vem também?"
    ),
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю. Сегодня 12 июня, верно?",
    "Spanish": (
        "¿Dónde está el niño? ¡Qué alegría! El pingüino comió piñas, y mañana volverá a las 8:30."
    ),
    "Swedish": (
        "Får får lamm? Nej, får får får inte. Sju sjösjuka sjömän på skeppet åt räksmörgås i går."
    ),
    "Thai": "สวัสดีครับ วันนี้อากาศดีมาก เราไปกินข้าวที่ตลาดกันไหม ราคา ๑๒๐ บาท ถูกและอร่อยที่สุด",
    "Turkish": (
        "İstanbul'da hava güneşli. Şu ağacın gölgesinde çay içelim mi? Işıklar söndü, çocuk uyudu."
    ),
    "Ukrainian": (
        "Щастя — це коли тебе розуміють. Ґанок, їжак, є й м'ята; сьогодні о 18:45 зустрінемось?"
    ),
}

# Ranges of characters and how often each is drawn from.
_RANGES = [
    *[(0x20, 0x7E, 30), (0xA0, 0x17F, 5), (0x370, 0x3FF, 3), (0x400, 0x4FF, 4), (0x530, 0x58F, 1)],
    *[(0x590, 0x5FF, 2), (0x600, 0x6FF, 3), (0x880, 0x97F, 2), (0xB80, 0xCFF, 2)],
    *[(0xE00, 0xEDF, 2), (0x10A0, 0x10FF, 1), (0x1100, 0x11FF, 1), (0x1800, 0x18AF, 1)],
    *[(0x1B00, 0x1B7F, 1), (0x1C80, 0x1C8F, 1), (0x1E00, 0x1EFF, 2), (0x2000, 0x206F, 3)],
    *[(0x2070, 0x20CF, 2), (0x2150, 0x218F, 1), (0x2420, 0x24FF, 1), (0x2500, 0x27BF, 2)],
    *[(0x2FF0, 0x30FF, 4), (0x31E0, 0x3450, 1), (0x4E00, 0x9FFF, 6), (0xA700, 0xA7FF, 1)],
    *[(0xAC00, 0xD7A3, 4), (0xE000, 0xE010, 1), (0xFB00, 0xFDFF, 1), (0xFE00, 0xFE0F, 1)],
    *[(0xFF00, 0xFFEF, 2), (0x10000, 0x100FF, 1), (0x10400, 0x1044F, 1), (0x105C0, 0x105FF, 1)],
    *[(0x10D40, 0x10D8F, 1), (0x11000, 0x110FF, 1), (0x11DE0, 0x11DF0, 1), (0x16D40, 0x16D7F, 1)],
    *[(0x16FF0, 0x16FFF, 1), (0x1D400, 0x1D7FF, 1), (0x1F300, 0x1FAFF, 6), (0x20000, 0x20100, 1)],
    *[(0x2EBF0, 0x2EC00, 1), (0x31350, 0x31400, 1), (0xE0000, 0xE01EF, 1), (0x10FFF0, 0x10FFFF, 1)],
    *[(0, 0x1F, 4), (0x7F, 0x9F, 2)],
]
_WEIGHTS = [weight for *_, weight in _RANGES]
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_ALMOST_SPACE = "\u200b\ufeff\u180e\x1c\x1d\x1e\x1f\u2060\u200c\u200d"
_COMBINING = "\u0301\u0308\u20dd\u0327\u093c\u0e49\u05bc\u0651\u3099"
_EMOJI = ["😀", "👨‍👩‍👧‍👦", "👍🏽", "🇫🇷", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "🧑🏿‍🚀", "1️⃣", "🫠", "🫨", "☺"]
_RUNS = [" ", "\n", "\t", "\r\n", "▁", " \n", "\u3000"]
_TOKENS = [
    *["<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>"],
    *["<|end|>", "<|user|>", "<|placeholder6|>", "<|end", "|>", "<|", "<|<|user|>", "<"],
    *["<0x0A>", "<0xE2>", "<|im_start|>", "<|im_end|>"],
]
_WORDS = " ".join(LANGUAGES.values()).split() + [
    *["don't", "we'll", "I'm", "you've", "he'd", "it's", "CAN'T", "WE'LL", "'S", "'ſ", "'K"],
    *["camelCase", "HTTPServer", "iPhone3G", "snake_case", "x2+y2=z2", "3.14159", "12345678"],
    *["1,000,000", "http://example.com/a?b=c&d=e", "user@host.org", "int main(void){return 0;}"],
    *["½", "²³", "ⅷ", "Straße", "Ωmega", "हिन्दी"],
]


def _character(random: random_module.Random) -> str:
    first, last, _ = random.choices(_RANGES, _WEIGHTS)[0]
    return chr(random.randint(first, last))


def _piece(random: random_module.Random) -> str:
    kind = random.random()
    if kind < 0.22:
        return "".join(_character(random) for _ in range(random.randint(1, 8)))
    if kind < 0.45:
        return random.choice(["", " ", " ", "  "]) + random.choice(_WORDS)
    if kind < 0.55:
        return "".join(random.choices(WHITE_SPACE, k=random.randint(1, 5)))
    if kind < 0.60:
        return random.choice(_RUNS) * random.randint(1, 40)
    if kind < 0.66:
        return random.choice(_EMOJI)
    if kind < 0.70:
        return _character(random) + random.choice(_COMBINING) * random.randint(1, 3)
    if kind < 0.74:
        return random.choice(_ALMOST_SPACE)
    if kind < 0.88:
        sides = ["", " ", "\n", "  ", "\u00a0", random.choice(WHITE_SPACE)]
        return random.choice(sides) + random.choice(_TOKENS) + random.choice(sides)
    if kind < 0.92:
        return random.randbytes(random.randint(1, 6)).decode("latin-1")
    if kind < 0.96:
        return random.randbytes(random.randint(1, 8)).decode("utf-8", "replace")
    return _character(random) * random.randint(2, 60)


def generate(random: random_module.Random) -> str:
    return "".join(_piece(random) for _ in range(random.randint(0, 9)))
