/* port_af_xdp.c - several queues of an interface for net_af_xdp.
 *
 * The driver counts an interface's queues by its "combined" channels. Some interfaces have receive
 * and send channels apart instead (veth among them), and get one queue from the driver, whatever
 * they have. AF_XDP itself binds to any queue that has a receive side, and libxdp counts so, too.
 *
 * As in port_af_packet.c, the driver is linked into this program, so its ioctl is ours: the
 * function below stands before the C library's, passes every call on, and says of separate channels
 * how many pairs they make. Refused: a port per queue (a listener names one port, and so is one
 * order unit). */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint32_t less(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    int rc = (int)syscall(SYS_ioctl, fd, request, arg);
    if (rc < 0 || request != SIOCETHTOOL)
        return rc;
    struct ethtool_channels *c = (void *)((struct ifreq *)arg)->ifr_data;
    if (c->cmd == ETHTOOL_GCHANNELS && c->max_combined == 0) {
        c->max_combined = less(c->max_rx, c->max_tx);
        c->combined_count = less(c->rx_count, c->tx_count);
    }
    return rc;
}
