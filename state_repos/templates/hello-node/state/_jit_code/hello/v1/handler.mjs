/** Answers a greeting. */

/** Greet the name in the path, or the world. */
export function handle(input, context) {
  const name = input.httpDetails.pathParameters?.name ?? "world";
  const greeting = context.configuration?.greeting ?? "Hello";
  return { message: `${greeting}, ${name}!` };
}
