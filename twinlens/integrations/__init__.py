"""Integrations: an MCP server and a LangChain retriever."""
