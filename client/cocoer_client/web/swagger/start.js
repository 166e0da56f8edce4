"use strict";

// Swagger UI goes dark by this class.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Keys stay in this page: nothing is stored, and the validator of swagger.io is not told of the document.
  persistAuthorization: false,
  validatorUrl: null,
});
