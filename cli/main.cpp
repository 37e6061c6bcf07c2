// SPDX-License-Identifier: Apache-2.0
// meshctl: stdout is data, stderr is messages; a reader that goes away ends it quietly.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/context.hpp"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);
  mesh::cli::Context context(std::cout, std::cerr);
  context.terminal = ::isatty(STDOUT_FILENO) == 1;
  const char* no_colour = std::getenv("NO_COLOR");
  context.colour = context.terminal && (no_colour == nullptr || *no_colour == '\0');
  return mesh::cli::run_meshctl(argc, argv, context);
}
