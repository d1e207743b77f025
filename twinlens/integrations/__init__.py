"""twinlens for other software: an MCP server and a LangChain retriever."""
