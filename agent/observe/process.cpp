// SPDX-License-Identifier: Apache-2.0
#include "observe/process.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <sstream>
#include <string>

#include "base/fd.hpp"

namespace mesh::observe {
namespace {

constexpr std::size_t kProcFileLimit = 16384;

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

std::uint64_t count_open_fds() {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = ::readdir(folder)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(folder);
  return count - 1;  // the folder itself was open
}

/// Field 22 of /proc/self/stat, in ticks since boot, as unix time.
double start_time() {
  const auto stat = base::read_file("/proc/self/stat", kProcFileLimit);
  timespec boot{};
  timespec wall{};
  if (!stat || ::clock_gettime(CLOCK_BOOTTIME, &boot) != 0 || ::clock_gettime(CLOCK_REALTIME, &wall) != 0) return 0;
  std::istringstream fields(stat->substr(stat->rfind(')') + 2));  // the name before may hold anything
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double ticks = 0;
  fields >> ticks;
  const auto seconds = [](const timespec& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  return seconds(wall) - seconds(boot) + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessUsage read_process_usage() {
  ProcessUsage usage;
  rusage used{};
  if (::getrusage(RUSAGE_SELF, &used) == 0) usage.cpu_seconds = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
  if (const auto statm = base::read_file("/proc/self/statm", kProcFileLimit)) {
    std::istringstream pages(*statm);
    const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    pages >> usage.virtual_bytes >> usage.resident_bytes;
    usage.virtual_bytes *= page_bytes;
    usage.resident_bytes *= page_bytes;
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) usage.max_fds = limit.rlim_cur;
  usage.open_fds = count_open_fds();
  static const double started = start_time();
  usage.start_time_seconds = started;
  return usage;
}

}  // namespace mesh::observe
