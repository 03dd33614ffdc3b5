"""What the page says, in two languages."""

import os
from typing import Literal

Language = Literal["en", "zh"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "How {model} reads a text",
        "output": "What the model says",
        "explained": "Explained here: “{target}”, to which the model gives a probability of {probability}.",
        "outputs_caption": "The likeliest outputs",
        "name": "output",
        "probability": "probability",
        "source": "Source",
        "text": "Text",
        "attributions": "What the output rests on",
        "attributions_show": "Each token is coloured by how much it raises (blue, +) or lowers (orange, −) the "
        "log-probability of “{target}”, in nats, against a text of neutral tokens (integrated gradients, Sundararajan "
        "et al. 2017).",
        "attributions_hide": "It does not show how tokens work together, nor whether the model is right; with another "
        "neutral text the numbers would be others.",
        "complete": "Check of completeness: the attributions add up to {total} nats, and the log-probability differs "
        "by {difference} from that of the neutral text, so that {error} nats are missed ({steps} steps).",
        "attributions_caption": "The attribution of each token, in nats",
        "token": "token",
        "attribution": "attribution",
        "attention": "Who reads whom",
        "attention_show": "In each picture a row is a token that reads and a column a token that is read, from first "
        "to last; the stronger the blue, the more attention, and each row adds up to 1.",
        "attention_hide": "It does not show why the model says what it says: attention is not explanation, as Jain and "
        "Wallace (2019) found that quite other weights can give the same output, and what is read need not be used.",
        "left_out": "{shown} of the model's {heads} heads are shown.",
        "self": "Layer {number}",
        "encoder": "Encoder, layer {number}",
        "decoder": "Decoder, layer {number}",
        "cross": "From decoder to encoder, layer {number}",
        "mean": "Mean of the heads shown; strongest: {most}",
        "head": "Head {number}",
        "most": "strongest: {most}",
        "table": "The same as a table",
        "reads": "reads most",
        "made": "Made by LM Commons. The page needs no network and no scripts.",
    },
    "zh": {
        "title": "{model} 如何阅读一段文本",
        "output": "模型的输出",
        "explained": "此处解释：“{target}”，模型给它的概率为 {probability}。",
        "outputs_caption": "最可能的输出",
        "name": "输出",
        "probability": "概率",
        "source": "源文本",
        "text": "文本",
        "attributions": "输出的依据",
        "attributions_show": "每个词元的颜色表示：与由中性词元组成的文本相比，它使“{target}”的对数概率升高（蓝色，+）"
        "或降低（橙色，−）多少奈特（积分梯度，Sundararajan 等，2017）。",
        "attributions_hide": "它不显示词元之间如何共同起作用，也不说明模型是否正确；换一个中性文本，数值就会不同。",
        "complete": "完备性检验：各词元归因之和为 {total} 奈特，对数概率与中性文本之差为 {difference}，"
        "误差为 {error} 奈特（积分 {steps} 步）。",
        "attributions_caption": "每个词元的归因（奈特）",
        "token": "词元",
        "attribution": "归因",
        "attention": "谁在读谁",
        "attention_show": "每幅图中，行是在读的词元，列是被读的词元，按先后排列；蓝色越浓，注意力越多，每行之和为 1。",
        "attention_hide": "它不说明模型为何如此输出：注意力并非解释。Jain 和 Wallace（2019）发现，"
        "很不相同的权重也能给出相同的输出，而读到的内容也未必被使用。",
        "left_out": "模型共有 {heads} 个注意力头，此处显示 {shown} 个。",
        "self": "第 {number} 层",
        "encoder": "编码器，第 {number} 层",
        "decoder": "解码器，第 {number} 层",
        "cross": "解码器读编码器，第 {number} 层",
        "mean": "所示各头的平均；最浓处：{most}",
        "head": "第 {number} 头",
        "most": "最浓处：{most}",
        "table": "同样内容的表格",
        "reads": "最常读",
        "made": "由 LM Commons 生成。本页无需网络，也无需脚本。",
    },
}


def environment_language() -> Language:
    """The language of the user's environment, as POSIX has it: Chinese or English."""
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return "zh" if next(filter(None, names), "").startswith("zh") else "en"
