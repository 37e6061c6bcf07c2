// SPDX-License-Identifier: Apache-2.0
// What the books of the backends say that they did not say at the last look: connections opened, established, failed,
// ended. Only services that moved, or have open connections, are looked at: a hundred thousand idle backends cost
// nothing but one load per service and look.
//
// Counters are of an identity (id and generation): another identity starts at zero, and a counter that went backwards
// is a new start too. Of what stood in the books before the first look at a service nothing is reported: nobody knows
// when it happened.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "datapath/inspect.hpp"
#include "datapath/maps.hpp"
#include "model/service.hpp"

namespace mesh::datapath {

/// One backend's books, as they are read.
struct Book {
  mesh_backend_live live{};
  mesh_backend_outcomes outcomes{};
};

/// Where books are read from: the kernel's maps, or a test's memory.
class BookSource {
 public:
  virtual ~BookSource() = default;
  /// connect()s sent to the service's backends so far.
  [[nodiscard]] virtual std::uint64_t connects(std::uint32_t service_id) const = 0;
  using Visit = std::function<void(std::uint32_t backend_id, const Book& book)>;
  virtual base::Result<void> read(std::span<const std::uint32_t> backend_ids, const Visit& visit) const = 0;
};

/// Maps the part of the books that is asked for and unmaps it again: two system calls per table, whatever is read.
class KernelBooks final : public BookSource {
 public:
  explicit KernelBooks(const MapSet& maps) : maps_(maps) {}
  [[nodiscard]] std::uint64_t connects(std::uint32_t service_id) const override;
  base::Result<void> read(std::span<const std::uint32_t> backend_ids, const Visit& visit) const override;

 private:
  const MapSet& maps_;
};

/// Since the last look.
struct BookNews {
  std::uint64_t opened = 0;
  std::uint64_t closed = 0;
  std::uint64_t established = 0;
  std::uint64_t failed = 0;
  std::array<std::uint64_t, MESH_OUTCOMES> ended{};
  bool operator==(const BookNews&) const = default;
};

struct BackendNews {
  base::SocketAddress address;
  BookNews news;
  std::uint32_t failures_in_row = 0;  ///< Now.
};

struct ServiceNews {
  model::Frontend frontend;
  std::vector<BackendNews> backends;  ///< Those of which there is news.
};

class Books {
 public:
  /// Whether a service is looked at at all; asked again after each apply.
  using Wanted = std::function<bool(const model::Frontend&)>;

  Books(const BookSource& source, const MapStore& store, Wanted wanted)
      : source_(source), store_(store), wanted_(std::move(wanted)) {}

  /// `applies` counts how often tables were applied: the ids are read anew when it changed. Services without news are
  /// left out.
  base::Result<std::vector<ServiceNews>> look(base::TimePoint now, std::uint64_t applies);

 private:
  static constexpr auto kSettle = std::chrono::seconds(1);  ///< A service that moved is read in each look for so long,
  static constexpr auto kOpen = std::chrono::seconds(1);    ///< and so often while it has open connections.

  struct Service {
    model::Frontend frontend;
    std::uint64_t connects = 0;
    std::optional<base::TimePoint> moved_at;
    base::TimePoint look_at{};
    bool open = false;
    bool known = false;  ///< Its books were read before, or were all zero.
    bool due = false;
    std::uint64_t round = 0;
  };
  /// Counters modulo 2^32: looks are closer together than that.
  struct Seen {
    std::uint32_t generation = 0;
    std::uint32_t opened = 0, closed = 0, established = 0, failed = 0;
    std::array<std::uint32_t, MESH_OUTCOMES> ended{};
  };

  void refresh();
  void take_due(base::TimePoint now);
  BookNews note(const BackendIndex::Entry& entry, const Book& book, bool known);

  const BookSource& source_;
  const MapStore& store_;
  const Wanted wanted_;
  std::optional<std::uint64_t> made_at_;  ///< Applies when the ids were read.
  std::optional<BackendIndex> index_;
  std::uint64_t rounds_ = 0;
  std::unordered_map<std::uint32_t, Service> services_;  ///< By id.
  std::unordered_map<std::uint32_t, Seen> seen_;         ///< By backend id.
};

}  // namespace mesh::datapath
