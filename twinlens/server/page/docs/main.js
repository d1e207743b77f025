// Show the OpenAPI document with Swagger UI. Requests are tried with this server, and with no other.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  tryItOutEnabled: true,
  // Otherwise Swagger UI sends the document to a site of its own.
  validatorUrl: null,
});
