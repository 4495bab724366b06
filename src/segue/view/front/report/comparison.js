export function startComparison() {}
