// SPDX-License-Identifier: Apache-2.0
// A storm of connections that end in every way there is, while the agent is killed and its services change; and then
// the books: no record is left, and for every backend opened = closed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mesh::test {

struct BooksOptions {
  int kills = 20;  ///< Of the agent; between two of them the storm goes on for up to half a second.
  std::uint64_t seed = 1;
  int clients = 4;  ///< Processes; each also makes, leaves and kills children.
  std::function<void(int kills_done, const std::string& text)> progress;
};

struct BooksReport {
  std::uint64_t connections = 0;  ///< Begun by the clients.
  std::uint64_t opened = 0;       ///< In the books of the backends that are there at the end.
  std::uint64_t records = 0;      ///< Left when no socket was: must be 0.
  std::vector<std::string> faults;
};

BooksReport run_books_trial(const BooksOptions& options);

}  // namespace mesh::test
