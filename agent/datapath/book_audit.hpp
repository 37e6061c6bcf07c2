// SPDX-License-Identifier: Apache-2.0
// Do the books balance? For each backend opened = closed + owner records; connections that come and go while it is
// asked don't count, because only backends whose books stand still meanwhile are compared. A difference that stands
// unchanged in two looks, far apart, is nothing under way: somebody wrote to the tables, or a program was cut off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "datapath/maps.hpp"

namespace mesh::datapath {

struct BookDifference {
  std::uint32_t backend_id = 0;
  std::uint32_t generation = 0;
  std::int64_t surplus = 0;  ///< Records more (or, negative, fewer) than opened - closed.
  auto operator<=>(const BookDifference&) const = default;
};
std::string to_string(
    const BookDifference& difference);  // "backend 7: 2 records more than open connections in its books"

/// Every backend whose books don't balance now. Maps the books and the records for as long as it takes, about 2 ms per
/// 100,000 of either.
base::Result<std::vector<BookDifference>> compare_books(const MapSet& maps);

/// Makes the books say what the records say: an atomic addition to `opened` or `closed`, beside those of the kernel's
/// programs, so that no connection that comes or goes at that moment is lost.
base::Result<void> correct_books(const MapSet& maps, const std::vector<BookDifference>& differences);

/// Frees records whose sockets are gone (census.hpp), if they are still as they were, and counts their connections as
/// closed. Returns how many.
base::Result<std::size_t> free_records(const MapSet& maps, std::span<const mesh_owner> records);

/// Which differences to correct: those that stood in the look before as they are now.
class BookAudit {
 public:
  std::vector<BookDifference> look(std::vector<BookDifference> found);

 private:
  std::vector<BookDifference> before_;  ///< Sorted.
};

}  // namespace mesh::datapath
