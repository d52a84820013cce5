"""Which providers speak OpenAI's dialect byte for byte, and where they are.

Names and default bases are those of litellm 1.106 (`get_llm_provider_logic.py`,
`llms/*/chat/transformation.py` and its documentation's provider pages), so that
an entry means here what it means there. A provider that is not in `DIALECT` needs
its requests translated: that is the litellm transport's work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["DIALECT", "TRANSLATED", "Provider", "provider_name", "split_model"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of OpenAI's dialect. `base` None: the entry must give an api_base.

    `drops_v1`: its paths have no `/v1` even below a bare host (`/chat/completions`).
    `model_prefix` goes before a model name that does not start with `accounts/`.
    """

    base: str | None = None
    drops_v1: bool = False
    model_prefix: str = ""


DIALECT: Mapping[str, Provider] = MappingProxyType(
    {
        "openai": Provider("https://api.openai.com/v1"),
        "text-completion-openai": Provider("https://api.openai.com/v1"),
        "custom_openai": Provider(),
        "openai_like": Provider(),
        "hosted_vllm": Provider(),
        "lm_studio": Provider(),
        "xinference": Provider(),
        "litellm_proxy": Provider(),
        "llamafile": Provider("http://127.0.0.1:8080/v1"),
        "docker_model_runner": Provider("http://localhost:22088/engines/llama.cpp/v1"),
        "aiml": Provider("https://api.aimlapi.com/v1"),
        "anyscale": Provider("https://api.endpoints.anyscale.com/v1"),
        "baseten": Provider("https://inference.baseten.co/v1"),
        "cerebras": Provider("https://api.cerebras.ai/v1"),
        "chutes": Provider("https://llm.chutes.ai/v1"),
        "codestral": Provider("https://codestral.mistral.ai/v1"),
        "dashscope": Provider("https://dashscope-intl.aliyuncs.com/compatible-mode/v1"),
        "deepinfra": Provider("https://api.deepinfra.com/v1/openai"),
        "deepseek": Provider("https://api.deepseek.com/beta"),
        "featherless_ai": Provider("https://api.featherless.ai/v1"),
        "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", model_prefix="accounts/fireworks/models/"),
        "friendliai": Provider("https://api.friendli.ai/serverless/v1"),
        "galadriel": Provider("https://api.galadriel.com/v1"),
        "github": Provider("https://models.inference.ai.azure.com", drops_v1=True),
        "groq": Provider("https://api.groq.com/openai/v1"),
        "hyperbolic": Provider("https://api.hyperbolic.xyz/v1"),
        "inception": Provider("https://api.inceptionlabs.ai/v1"),
        "lambda_ai": Provider("https://api.lambda.ai/v1"),
        "meta_llama": Provider("https://api.llama.com/compat/v1"),
        "mistral": Provider("https://api.mistral.ai/v1"),
        "moonshot": Provider("https://api.moonshot.ai/v1"),
        "morph": Provider("https://api.morphllm.com/v1"),
        "nebius": Provider("https://api.studio.nebius.ai/v1"),
        "novita": Provider("https://api.novita.ai/v3/openai"),
        "nscale": Provider("https://inference.api.nscale.com/v1"),
        "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1"),
        "openrouter": Provider("https://openrouter.ai/api/v1"),
        "perplexity": Provider("https://api.perplexity.ai", drops_v1=True),
        "sambanova": Provider("https://api.sambanova.ai/v1"),
        "together_ai": Provider("https://api.together.ai/v1"),
        "v0": Provider("https://api.v0.dev/v1"),
        "vercel_ai_gateway": Provider("https://ai-gateway.vercel.sh/v1"),
        "volcengine": Provider("https://ark.cn-beijing.volces.com/api/v3"),
        "wandb": Provider("https://api.inference.wandb.ai/v1"),
        "xai": Provider("https://api.x.ai/v1"),
        "zai": Provider("https://api.z.ai/api/paas/v4"),
    }
)

# Providers of litellm's whose requests it translates (its enum LlmProviders, chat ones).
TRANSLATED = frozenset({
    "ai21", "ai21_chat", "aiohttp_openai", "amazon_nova", "anthropic", "anthropic_text", "azure", "azure_ai",
    "azure_text", "bedrock", "bedrock_mantle", "bytez", "chatgpt", "clarifai", "cloudflare", "cohere",
    "cohere_chat", "cometapi", "compactifai", "custom", "databricks", "datarobot", "edenai", "empower",
    "gemini", "gigachat", "github_copilot", "gradient_ai", "helicone", "heroku", "huggingface", "langflow",
    "langgraph", "lemonade", "manus", "maritalk", "meta", "minimax", "modelscope", "nano-gpt", "nlp_cloud",
    "nvidia_riva", "oci", "ollama", "ollama_chat", "oobabooga", "ovhcloud", "petals", "poe", "predibase",
    "publicai", "qwen_ai_platform", "qwencloud", "ragflow", "replicate", "sagemaker", "sagemaker_chat",
    "sagemaker_nova", "sap", "scaleway", "snowflake", "synthetic", "tencent", "text-completion-codestral",
    "text-completion-inception", "triton", "vertex_ai", "vertex_ai_beta", "vllm", "watsonx", "watsonx_text",
    "xiaomi_mimo",
})  # fmt: skip

# Families that litellm finds by a bare name; any other bare name is OpenAI's.
_BARE = (("claude", "anthropic"), ("gemini", "gemini"), ("command-", "cohere_chat"), ("mistral", "mistral"))

# OpenTelemetry's registry of gen_ai.provider.name, where litellm's name is another.
_OTEL = MappingProxyType({
    "text-completion-openai": "openai", "custom_openai": "openai", "openai_like": "openai",
    "anthropic_text": "anthropic", "azure": "azure.ai.openai", "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference", "bedrock": "aws.bedrock", "cohere_chat": "cohere",
    "codestral": "mistral_ai", "gemini": "gcp.gemini", "hosted_vllm": "vllm", "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai", "vertex_ai_beta": "gcp.vertex_ai", "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
})  # fmt: skip


def provider_name(provider: str) -> str:
    """OpenTelemetry's `gen_ai.provider.name` for litellm's provider name."""
    return _OTEL.get(provider, provider)


def split_model(model: str, custom_provider: str | None = None) -> tuple[str | None, str]:
    """`openai/gpt-4o` as (provider, the provider's own model name).

    The provider is None when the text before the first slash names none, and a
    bare name is OpenAI's but for a few known families. `custom_provider` (litellm's
    `custom_llm_provider`) decides where it is given.
    """
    head, slash, rest = model.partition("/")
    if custom_provider:
        return custom_provider, rest if slash and head == custom_provider else model
    if not slash:
        return next((provider for start, provider in _BARE if model.startswith(start)), "openai"), model
    return (head, rest) if head in DIALECT or head in TRANSLATED else (None, model)
