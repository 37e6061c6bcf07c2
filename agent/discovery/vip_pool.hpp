// SPDX-License-Identifier: Apache-2.0
// Virtual addresses by name, for services that have none: the same name has the same address over restarts and reboots.
//
// An address is drawn by the hash of its name, so that agents with the same range usually agree; a place that is taken
// is passed over, and what was given is kept on disk. The first sixteenth of a range stays free for addresses that
// people write by hand. When the range is full, the address of the name that has not been in use for longest, two
// days at least, is given away; when there is none that is an error.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::discovery {

/// All addresses that begin with the first `bits` of `ip`; what is behind them is zero.
struct VipRange {
  base::IpAddress ip;
  unsigned bits = 0;  ///< Of 32 for IPv4, of 128 for IPv6.

  /// "240.64.0.0/12"; at most /30 and /126, and at least /8.
  static base::Result<VipRange> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] bool contains(const base::IpAddress& other) const;
  /// How many addresses can be given; at most 2^31 of a large range.
  [[nodiscard]] std::uint64_t capacity() const;
  /// The n-th that can be given, n < capacity().
  [[nodiscard]] base::IpAddress at(std::uint64_t n) const;
  bool operator==(const VipRange&) const = default;
};

/// Who has which address, of one family. Pure.
class VipTable {
 public:
  using Day = std::uint32_t;  ///< Since 1970: when a name was in use last.
  struct Entry {
    std::uint64_t place = 0;  ///< In the range.
    Day used = 0;
    bool operator==(const Entry&) const = default;
  };

  /// `reserved` are never given.
  explicit VipTable(VipRange range, const std::vector<base::IpAddress>& reserved = {});

  /// The address of a name, old or new. kExhausted: all are held by names that are in use on `today`.
  base::Result<base::IpAddress> assign(const std::string& name, Day today);
  /// Takes back what was given in an earlier life; an address outside the range, or given already, is passed over.
  void restore(const std::string& name, const base::IpAddress& ip, Day used);

  [[nodiscard]] const std::map<std::string, Entry>& entries() const { return entries_; }
  [[nodiscard]] const VipRange& range() const { return range_; }
  /// Something changed that has to be kept, since kept().
  [[nodiscard]] bool changed() const { return changed_; }
  void kept() { changed_ = false; }

 private:
  bool reclaim(Day today);

  VipRange range_;
  std::set<std::uint64_t> reserved_;
  std::map<std::string, Entry> entries_;
  std::unordered_map<std::uint64_t, std::string> taken_;
  bool changed_ = false;
};

std::string encode_vips(const VipTable& v4, const VipTable& v6);
/// kInvalid: damaged; then nothing was restored.
base::Result<void> decode_vips(std::string_view content, VipTable& v4, VipTable& v6);

/// The tables of both families and their file. For any thread.
class VipPool {
 public:
  struct Options {
    std::string path;  ///< Empty: nothing is kept.
    VipRange v4;
    VipRange v6;
    std::vector<base::IpAddress> reserved;
  };
  /// Reads the file; one that is damaged is set aside with a warning, and addresses are drawn by their names again.
  explicit VipPool(Options options);

  base::Result<base::IpAddress> assign(const std::string& name, bool v4);
  /// Writes what changed, before what was assigned is used.
  base::Result<void> keep();
  [[nodiscard]] std::size_t used() const;

 private:
  const std::string path_;
  mutable std::mutex mutex_;
  VipTable v4_;
  VipTable v6_;
};

}  // namespace mesh::discovery
