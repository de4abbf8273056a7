"""Two small iris models, so that a first start has something to show: trained with the stock MLflow client."""

from rich.console import Console


async def provide(url: str, console: Console) -> None:
    pass
