// SPDX-License-Identifier: Apache-2.0
#include "names/places.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

#include "base/fd.hpp"

namespace mesh::names {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kResolvConfMax = 16384;
constexpr std::size_t kResolversPerPlace = 4;  // resolv.conf(5) has three

/// The file as somebody else's root has it: not followed into a pipe or a device, which could hold us up.
std::string read_resolv_conf(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status{};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::array<char, kResolvConfMax> buffer;
  const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
  return count > 0 ? std::string(buffer.data(), static_cast<std::size_t>(count)) : std::string();
}

std::optional<std::uint64_t> namespace_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return status.st_ino;
}

class Search {
 public:
  explicit Search(const std::string& own_folder) : own_folder_(own_folder) {
    own_ = namespace_of("/proc/self/ns/net").value_or(0);
  }

  void look_below(const fs::path& folder) {
    if (folder == own_folder_) return;
    std::ifstream processes(folder / "cgroup.procs");
    for (std::string pid; std::getline(processes, pid);) look_at(pid);
    std::error_code ignored;  // of a cgroup that goes meanwhile
    for (fs::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored)) {
      if (entry->is_directory(ignored)) look_below(entry->path());
    }
  }

  std::vector<FoundPlace> take() {
    std::ranges::sort(found_, {}, [](const FoundPlace& place) { return std::pair(!place.path.empty(), place.id); });
    return std::move(found_);
  }

 private:
  void look_at(const std::string& pid) {
    const std::string path = fmt::format("/proc/{}/ns/net", pid);
    const auto id = namespace_of(path);
    if (!id || found_.size() >= kPlacesMax || !seen_.insert(*id).second) return;
    const std::string root = *id == own_ ? std::string() : fmt::format("/proc/{}/root", pid);
    FoundPlace& place = found_.emplace_back();
    place.id = *id;
    if (*id != own_) place.path = path;
    place.resolvers = parse_resolv_conf(read_resolv_conf(root + "/etc/resolv.conf"));
  }

  const fs::path own_folder_;
  std::uint64_t own_ = 0;
  std::set<std::uint64_t> seen_;
  std::vector<FoundPlace> found_;
};

}  // namespace

std::vector<base::SocketAddress> parse_resolv_conf(std::string_view text) {
  std::vector<base::SocketAddress> resolvers;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line) && resolvers.size() < kResolversPerPlace;) {
    std::istringstream words(line);
    std::string keyword, address;
    words >> keyword >> address;
    if (keyword != "nameserver") continue;
    const auto ip = base::IpAddress::parse(address);
    if (!ip || ip->is_unspecified()) continue;
    const base::SocketAddress resolver{*ip, kDnsPort};
    if (std::ranges::find(resolvers, resolver) == resolvers.end()) resolvers.push_back(resolver);
  }
  return resolvers;
}

std::uint16_t ResolverPorts::port_of(const base::SocketAddress& resolver) {
  const auto known = ports_.find(resolver);
  if (known != ports_.end()) return known->second;
  if (ports_.size() >= kResolversMax) return 0;
  const auto port = static_cast<std::uint16_t>(first_ + ports_.size());
  ports_.emplace(resolver, port);
  return port;
}

std::vector<FoundPlace> find_places(const std::vector<std::string>& cgroup_folders, const std::string& own_folder) {
  Search search(own_folder);
  for (const std::string& folder : cgroup_folders) search.look_below(fs::path(folder + "/").parent_path());
  return search.take();
}

}  // namespace mesh::names
